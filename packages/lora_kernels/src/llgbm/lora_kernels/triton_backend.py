"""The Triton backend: the base GEMM by torch, the adapters' part by three kernels."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from llgbm.lora_kernels.triton_kernels import expand_kernel, outer_kernel, shrink_kernel

# Tiles for every size and GPU; a faster choice is made by measuring, not here.
BLOCK_M, BLOCK_K = 32, 64


def _rank_block(r: int) -> int:
    """Rank tile: a power of two, at least 16 for a matrix product."""
    return max(16, triton.next_power_of_2(r))


def shrink(x: Tensor, w: Tensor, scale: Tensor | None) -> Tensor:
    """Return scale * x wᵀ: x [n, m, k], w [n, r, k] of any strides -> [n, m, r] in x's dtype."""
    n, m, k = x.shape
    r = w.shape[1]
    y = torch.empty(n, m, r, dtype=x.dtype, device=x.device)
    if n and m:
        shrink_kernel[(n, triton.cdiv(m, BLOCK_M))](
            x, w, scale if scale is not None else x, y, m, k, r,
            *x.stride(), *w.stride(), *y.stride(),
            SCALED=scale is not None, BLOCK_M=BLOCK_M, BLOCK_K=BLOCK_K, BLOCK_R=_rank_block(r),
        )  # fmt: skip
    return y


def expand_(y: Tensor, u: Tensor, w: Tensor, scale: Tensor | None) -> None:
    """Add scale * u w to y in place: y [n, m, k], u [n, m, r], w [n, r, k] of any strides."""
    n, m, k = y.shape
    r = u.shape[2]
    if n and m:
        expand_kernel[(n, triton.cdiv(m, BLOCK_M), triton.cdiv(k, BLOCK_K))](
            u, w, scale if scale is not None else u, y, m, k, r,
            *u.stride(), *w.stride(), *y.stride(),
            SCALED=scale is not None, BLOCK_M=BLOCK_M, BLOCK_K=BLOCK_K, BLOCK_R=_rank_block(r),
        )  # fmt: skip


def outer(u: Tensor, x: Tensor) -> Tensor:
    """Return uᵀ x: u [n, m, r], x [n, m, k] -> [n, r, k] float32."""
    n, m, k = x.shape
    r = u.shape[2]
    g = torch.empty(n, r, k, dtype=torch.float32, device=x.device)
    if n:
        outer_kernel[(n, triton.cdiv(k, BLOCK_K))](
            u, x, g, m, k, r,
            *u.stride(), *x.stride(), *g.stride(),
            BLOCK_M=BLOCK_M, BLOCK_K=BLOCK_K, BLOCK_R=_rank_block(r),
        )  # fmt: skip
    return g


class TritonLoRALinear(torch.autograd.Function):
    """`TorchLoRALinear` with Triton kernels; the same arguments, gradients and saved tensors."""

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
        if x.dtype == torch.float64:
            raise ValueError("x: expected float32, bfloat16 or float16 for triton, got float64")
        n, m, in_features = x.shape
        y = F.linear(x.reshape(n * m, in_features), weight, bias).view(n, m, len(weight))
        u = shrink(x, lora_A, None)
        expand_(y, u, lora_B.mT, scaling)
        ctx.save_for_backward(x, u, weight, lora_A, lora_B, scaling)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """dy [n, m, out] -> gradients of x, A, B, scaling and bias."""
        x, u, weight, lora_A, lora_B, scaling = ctx.saved_tensors
        need_x, _, need_A, need_B, need_scaling, need_bias = ctx.needs_input_grad
        n, m, out_features = dy.shape
        dy = dy.contiguous()
        dx = dA = dB = dscaling = dbias = None
        if need_x or need_A:
            v = shrink(dy, lora_B.mT, scaling)  # s dy B
        if need_x:
            dx = (dy.view(n * m, out_features) @ weight).view(x.shape)
            expand_(dx, v, lora_A, None)
        if need_A:
            dA = outer(v, x).to(lora_A.dtype)
        if need_B or need_scaling:
            product = outer(u, dy)  # [n, r, out]
            if need_scaling:
                dscaling = (product * lora_B.mT).sum((1, 2)).to(scaling.dtype)
            if need_B:
                dB = (product * scaling[:, None, None]).mT.to(lora_B.dtype)
        if need_bias:
            dbias = dy.sum((0, 1), dtype=torch.float32).to(ctx.bias_dtype)
        return dx, None, dA, dB, dscaling, dbias
