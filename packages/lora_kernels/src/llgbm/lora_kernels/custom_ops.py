"""The formulas as custom ops of torch, for torch.compile and whatever else traces.

Each op is opaque to a tracer and allocates what it returns. Eager calls go through eager.py, which
computes the same without the price of dispatching an op.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from llgbm.lora_kernels import formulas


@torch.library.custom_op("llgbm::lora_forward", mutates_args=())
def lora_forward(
    x: Tensor,
    weights: Sequence[Tensor],
    lora_A: Sequence[Tensor],
    lora_B: Sequence[Tensor],
    scaling: Tensor,
    biases: Sequence[Tensor],
    offsets: Tensor | None,
    ranks: Tensor | None,
    longest: int,
    backend: str,
) -> list[Tensor]:
    """`formulas.forward`."""
    return formulas.forward(
        x, weights, lora_A, lora_B, scaling, biases, offsets, ranks, longest, backend
    )


@lora_forward.register_fake
def _(
    x: Tensor,
    weights: Sequence[Tensor],
    lora_A: Sequence[Tensor],
    lora_B: Sequence[Tensor],
    scaling: Tensor,
    biases: Sequence[Tensor],
    offsets: Tensor | None,
    ranks: Tensor | None,
    longest: int,
    backend: str,
) -> list[Tensor]:
    u = x.new_empty(x.shape[0], sum(A.shape[1] for A in lora_A))
    return [u, *(x.new_empty(x.shape[0], weight.shape[0]) for weight in weights)]


@torch.library.custom_op("llgbm::lora_backward", mutates_args=())
def lora_backward(
    dys: Sequence[Tensor],
    x: Tensor,
    u: Tensor,
    weights: Sequence[Tensor],
    lora_A: Sequence[Tensor],
    lora_B: Sequence[Tensor],
    scaling: Tensor,
    offsets: Tensor | None,
    ranks: Tensor | None,
    longest: int,
    backend: str,
    need_x: bool,
    need_A: bool,
    need_B: bool,
    need_scaling: bool,
) -> list[Tensor]:
    """`formulas.backward`."""
    return formulas.backward(
        dys,
        x,
        u,
        weights,
        lora_A,
        lora_B,
        scaling,
        offsets,
        ranks,
        longest,
        backend,
        need_x,
        need_A,
        need_B,
        need_scaling,
    )


@lora_backward.register_fake
def _(
    dys: Sequence[Tensor],
    x: Tensor,
    u: Tensor,
    weights: Sequence[Tensor],
    lora_A: Sequence[Tensor],
    lora_B: Sequence[Tensor],
    scaling: Tensor,
    offsets: Tensor | None,
    ranks: Tensor | None,
    longest: int,
    backend: str,
    need_x: bool,
    need_A: bool,
    need_B: bool,
    need_scaling: bool,
) -> list[Tensor]:
    n, r, wide = scaling.shape[0], lora_A[0].shape[1], formulas.wide(x)
    found = [x.new_empty(x.shape)] if need_x else []
    if need_A:
        found.append(x.new_empty(n, len(lora_A) * r, x.shape[1], dtype=wide))
    if need_B:
        found += [x.new_empty(n, r, dy.shape[1], dtype=wide) for dy in dys]
    if need_scaling:
        found.append(x.new_empty(n, dtype=wide))
    return found


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, weights, lora_A, lora_B, scaling, biases, offsets, ranks, longest, backend = inputs
    # u is kept: it is small, and computing it again would read x once more.
    ctx.save_for_backward(x, output[0], scaling, offsets, ranks, *weights, *lora_A, *lora_B)
    ctx.groups, ctx.longest, ctx.backend = len(weights), longest, backend
    ctx.bias_dtypes = [bias.dtype for bias in biases]


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    x, u, scaling, offsets, ranks, *rest = ctx.saved_tensors
    G = ctx.groups
    weights, lora_A, lora_B = rest[:G], rest[G : 2 * G], rest[2 * G :]
    need_x, _, need_A, need_B, need_scaling, need_biases, *_ = ctx.needs_input_grad
    dys = formulas.rows_of_gradients(grads[1:], x, weights)
    found = lora_backward(
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
    return dx, [None] * G, dA, dB, dscaling, dbiases, None, None, None, None


def _no_second_derivative(ctx: Any, *grads: Any) -> None:
    raise ValueError(
        "lora_linear: double backward: expected first derivatives only, got a second one: "
        "call naive_lora_linear where it is needed"
    )


lora_forward.register_autograd(_backward, setup_context=_set_up)
lora_backward.register_autograd(_no_second_derivative)
