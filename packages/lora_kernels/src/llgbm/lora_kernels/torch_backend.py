"""The torch backend: a base GEMM over all rows, and the adapters' part added in place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class TorchLoRALinear(torch.autograd.Function):
    """y = x Wᵀ + s (x Aᵀ) Bᵀ + bias with the frozen W outside the graph.

    Kept for the backward: x, u = x Aᵀ and the factors. The products run in x's dtype, which
    accumulates in float32 inside a GEMM; gradients come back in the dtype of their argument.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        lora_A: Tensor,
        lora_B: Tensor,
        scaling: Tensor,
        bias: Tensor | None,
    ) -> Tensor:
        """x [n, m, in] -> [n, m, out]."""
        n, m, in_features = x.shape
        A, B = lora_A.to(x.dtype), lora_B.to(x.dtype)
        y = F.linear(x.reshape(n * m, in_features), weight, bias).view(n, m, len(weight))
        u = torch.bmm(x, A.mT)
        y.baddbmm_(u * _column(scaling, x), B.mT)
        ctx.save_for_backward(x, u, weight, A, B, scaling)
        ctx.dtypes = (lora_A.dtype, lora_B.dtype, None if bias is None else bias.dtype)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """dy [n, m, out] -> gradients of x, A, B, scaling and bias."""
        x, u, weight, A, B, scaling = ctx.saved_tensors
        dtype_A, dtype_B, dtype_bias = ctx.dtypes
        need_x, _, need_A, need_B, need_scaling, need_bias = ctx.needs_input_grad
        n, m, out_features = dy.shape
        dy = dy.contiguous()
        dx = dA = dB = dscaling = dbias = None
        if need_x or need_A:
            v = torch.bmm(dy, B) * _column(scaling, x)  # s dy B, [n, m, r]
        if need_x:
            dx = (dy.view(n * m, out_features) @ weight).view(x.shape)
            dx.baddbmm_(v, A)
        if need_A:
            dA = torch.bmm(v.mT, x).to(dtype_A)
        if need_B or need_scaling:
            # [n, r, out]: the long side last is the faster GEMM.
            outer = torch.bmm(u.mT, dy).to(torch.promote_types(dtype_B, torch.float32))
            if need_scaling:
                dscaling = (outer * B.mT).sum((1, 2)).to(scaling.dtype)
            if need_B:
                dB = (outer * scaling.to(outer.dtype)[:, None, None]).mT.to(dtype_B)
        if need_bias:
            dbias = dy.sum((0, 1), dtype=torch.promote_types(dy.dtype, torch.float32))
            dbias = dbias.to(dtype_bias)
        return dx, None, dA, dB, dscaling, dbias


def _column(scaling: Tensor, x: Tensor) -> Tensor:
    """scaling [n] as [n, 1, 1] in x's dtype."""
    return scaling.to(x.dtype)[:, None, None]
