"""Eager calls: the formulas under a plain autograd function.

Dispatching a custom op costs a few hundred microseconds forward and backward; a step of a small
model has hundreds of them, so what is not traced takes this way. Both give the same bits.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from llgbm.lora_kernels import formulas
from llgbm.lora_kernels.custom_ops import lora_backward


class EagerLoRA(torch.autograd.Function):
    """`llgbm::lora_forward` with its arguments flattened: tensors of G groups, then the rest."""

    @staticmethod
    def forward(
        ctx: Any,
        groups: int,
        longest: int,
        backend: str,
        offsets: Tensor | None,
        ranks: Tensor | None,
        scaling: Tensor,
        x: Tensor,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        """tensors: G weights, G A, G B, and G biases or none."""
        weights, lora_A, lora_B, biases = (
            list(tensors[i * groups : (i + 1) * groups]) for i in range(4)
        )
        u, *ys = formulas.forward(
            x, weights, lora_A, lora_B, scaling, biases, offsets, ranks, longest, backend
        )
        ctx.save_for_backward(x, u, scaling, offsets, ranks, *weights, *lora_A, *lora_B)
        ctx.groups, ctx.longest, ctx.backend = groups, longest, backend
        ctx.bias_dtypes = [bias.dtype for bias in biases]
        # An output that nobody uses has no gradient: no memory of zeros for it before we ask.
        ctx.set_materialize_grads(False)
        return tuple(ys)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        """Gradients in the order of the arguments."""
        x, u, scaling, offsets, ranks, *rest = ctx.saved_tensors
        G = ctx.groups
        weights, lora_A, lora_B = rest[:G], rest[G : 2 * G], rest[2 * G :]
        need_scaling, need_x, *needs = ctx.needs_input_grad[5:]
        need_A, need_B, need_biases = needs[G : 2 * G], needs[2 * G : 3 * G], needs[3 * G :]
        dys = formulas.rows_of_gradients(grads, x, weights)
        # Under create_graph the op stands in the graph, which refuses a second derivative.
        compute = lora_backward if torch.is_grad_enabled() else formulas.backward
        found = compute(
            dys,
            x,
            u,
            weights,
            lora_A,
            lora_B,
            scaling,
            offsets,
            ranks,
            ctx.longest,
            ctx.backend,
            need_x,
            any(need_A),
            any(need_B),
            need_scaling,
        )
        dx, dA, dB, dscaling = formulas.gathered(
            found, lora_A, lora_B, scaling, need_x, need_A, need_B, need_scaling
        )
        dbiases = formulas.bias_gradients(dys, ctx.bias_dtypes, need_biases)
        nothing: list[Tensor | None] = [None] * G
        return None, None, None, None, None, dscaling, dx, *nothing, *dA, *dB, *dbiases
