"""Custom ops of torch: one forward with autograd, and the three products of its backward.

All of them take flat rows and groups of layers that read the same x (q, k and v, say): the low-rank
rows of all groups stand side by side in one u [M, G r], so that x is read once, and the groups
share one gradient of x. Each op is opaque to torch.compile and allocates what it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from llgbm.lora_kernels import torch_backend
from llgbm.lora_kernels.rows import Rows

P = ParamSpec("P")
R = TypeVar("R")


def _backend(name: str) -> ModuleType:
    """Module with `shrink`, `outer`, `adapted` and `input_gradient`."""
    if name == "torch":
        return torch_backend
    if name == "triton":
        from llgbm.lora_kernels import triton_backend

        return triton_backend
    from llgbm.lora_kernels import fused_backend

    return fused_backend


def _without_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """Run an op in the dtypes it was given; its fake promises them."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        first: Any = args[0]
        device = (first if isinstance(first, Tensor) else first[0]).device.type
        with torch.autocast(device, enabled=False):
            return function(*args, **kwargs)

    return run


@torch.library.custom_op("llgbm::lora_forward", mutates_args=())
@_without_autocast
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
    """u and y_g of every group, in one list.

    Args:
        x: [M, in].
        weights: G of [out_g, in].
        lora_A: G of [n, r, in].
        lora_B: G of [n, out_g, r].
        scaling: [n].
        biases: G of [out_g], or none at all.
        offsets, ranks, longest: see Rows.
        backend: `torch`, `triton` or `triton_fused`.

    Returns:
        u [M, G r], then y_g [M, out_g], in x's dtype.
    """
    rows = Rows(len(scaling), longest, offsets, ranks)
    module = _backend(backend)
    r = lora_A[0].shape[1]
    u = module.shrink(x, lora_A, None, rows)
    ys = [
        module.adapted(
            x,
            weight,
            u[:, g * r : (g + 1) * r],
            lora_B[g].mT,
            scaling,
            biases[g] if biases else None,
            rows,
        )
        for g, weight in enumerate(weights)
    ]
    return [u, *ys]


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


@torch.library.custom_op("llgbm::lora_shrink_gradients", mutates_args=())
@_without_autocast
def lora_shrink_gradients(
    dys: Sequence[Tensor],
    lora_B: Sequence[Tensor],
    scaling: Tensor,
    offsets: Tensor | None,
    ranks: Tensor | None,
    longest: int,
    backend: str,
) -> Tensor:
    """v = s dy_g B_g side by side: dy_g [M, out_g], B_g [n, out_g, r] -> [M, G r]."""
    rows = Rows(len(scaling), longest, offsets, ranks)
    parts = [
        _backend(backend).shrink(dy, [B.mT], scaling, rows)
        for dy, B in zip(dys, lora_B, strict=True)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


@lora_shrink_gradients.register_fake
def _(
    dys: Sequence[Tensor],
    lora_B: Sequence[Tensor],
    scaling: Tensor,
    offsets: Tensor | None,
    ranks: Tensor | None,
    longest: int,
    backend: str,
) -> Tensor:
    return dys[0].new_empty(dys[0].shape[0], sum(B.shape[2] for B in lora_B))


@torch.library.custom_op("llgbm::lora_input_gradient", mutates_args=())
@_without_autocast
def lora_input_gradient(
    dys: Sequence[Tensor],
    weights: Sequence[Tensor],
    v: Tensor,
    lora_A: Sequence[Tensor],
    n: int,
    offsets: Tensor | None,
    ranks: Tensor | None,
    longest: int,
    backend: str,
) -> Tensor:
    """dx = sum over g of dy_g W_g + v_g A_g: [M, in]."""
    rows = Rows(n, longest, offsets, ranks)
    dx: Tensor = _backend(backend).input_gradient(dys, weights, v, lora_A, rows)
    return dx


@lora_input_gradient.register_fake
def _(
    dys: Sequence[Tensor],
    weights: Sequence[Tensor],
    v: Tensor,
    lora_A: Sequence[Tensor],
    n: int,
    offsets: Tensor | None,
    ranks: Tensor | None,
    longest: int,
    backend: str,
) -> Tensor:
    return dys[0].new_empty(dys[0].shape[0], weights[0].shape[1])


@torch.library.custom_op("llgbm::lora_outer", mutates_args=())
@_without_autocast
def lora_outer(
    u: Tensor,
    x: Tensor,
    scaling: Tensor | None,
    n: int,
    offsets: Tensor | None,
    longest: int,
    backend: str,
) -> Tensor:
    """s uᵀ x of each adapter: u [M, R], x [M, k] -> [n, R, k], float32 (float64 for float64)."""
    g: Tensor = _backend(backend).outer(u, x, scaling, Rows(n, longest, offsets))
    return g


@lora_outer.register_fake
def _(
    u: Tensor,
    x: Tensor,
    scaling: Tensor | None,
    n: int,
    offsets: Tensor | None,
    longest: int,
    backend: str,
) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.new_empty(n, u.shape[1], x.shape[1], dtype=wide)


def _set_up(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, weights, lora_A, lora_B, scaling, biases, offsets, ranks, longest, backend = inputs
    # u is kept: it is small, and computing it again would read x once more.
    ctx.save_for_backward(x, output[0], scaling, offsets, ranks, *weights, *lora_A, *lora_B)
    ctx.groups, ctx.longest, ctx.backend = len(weights), longest, backend
    ctx.bias_dtypes = [bias.dtype for bias in biases]


def _backward(ctx: Any, grads: list[Tensor | None]) -> tuple[Any, ...]:
    x, u, scaling, offsets, ranks, *rest = ctx.saved_tensors
    G, n, longest, backend = ctx.groups, len(scaling), ctx.longest, ctx.backend
    weights, lora_A, lora_B = rest[:G], rest[G : 2 * G], rest[2 * G :]
    need_x, _, need_A, need_B, need_scaling, need_biases, *_ = ctx.needs_input_grad
    r = lora_A[0].shape[1]
    dys = [
        x.new_zeros(x.shape[0], weight.shape[0]) if dy is None else dy.contiguous()
        for dy, weight in zip(grads[1:], weights, strict=True)
    ]
    dx = dscaling = None
    dA: list[Tensor | None] = [None] * G
    dB: list[Tensor | None] = [None] * G
    dbiases: list[Tensor | None] = [None] * len(ctx.bias_dtypes)
    if need_x or any(need_A):
        v = lora_shrink_gradients(dys, lora_B, scaling, offsets, ranks, longest, backend)
        if need_x:
            dx = lora_input_gradient(dys, weights, v, lora_A, n, offsets, ranks, longest, backend)
        if any(need_A):
            all_dA = lora_outer(v, x, None, n, offsets, longest, backend)
            all_dA = _counting(all_dA, ranks, r)
            dA = [
                all_dA[:, g * r : (g + 1) * r].to(A.dtype) if needed else None
                for g, (A, needed) in enumerate(zip(lora_A, need_A, strict=True))
            ]
    for g, dy in enumerate(dys):
        if not (need_B[g] or need_scaling):
            continue
        u_g = u[:, g * r : (g + 1) * r]
        # [n, r, out], the long side last; the scaling waits where its own gradient is wanted.
        product = lora_outer(
            u_g, dy, None if need_scaling else scaling, n, offsets, longest, backend
        )
        product = _counting(product, ranks, r)
        if need_scaling:
            part = (product * _counting(lora_B[g].mT, ranks, r)).sum((1, 2))
            dscaling = part if dscaling is None else dscaling + part
            product = product * scaling.to(product.dtype)[:, None, None]
        if need_B[g]:
            dB[g] = product.mT.to(lora_B[g].dtype)
    for g, dtype in enumerate(ctx.bias_dtypes):
        if need_biases[g]:
            wide = torch.promote_types(dtype, torch.float32)
            dbiases[g] = dys[g].sum(0, dtype=wide).to(dtype)
    if dscaling is not None:
        dscaling = dscaling.to(scaling.dtype)
    return dx, [None] * G, dA, dB, dscaling, dbiases, None, None, None, None


def _counting(g: Tensor, ranks: Tensor | None, r: int) -> Tensor:
    """g [n, G r, k] with zeros in ranks that do not count, whatever NaN the rows may bring."""
    if ranks is None:
        return g
    counts = torch.arange(g.shape[1], device=g.device) % r < ranks[:, None]
    return torch.where(counts[:, :, None], g, 0)


def _no_second_derivative(ctx: Any, *grads: Any) -> None:
    raise ValueError(
        "lora_linear: double backward: expected first derivatives only, got a second one: "
        "call naive_lora_linear where it is needed"
    )


lora_forward.register_autograd(_backward, setup_context=_set_up)
for _op in (lora_shrink_gradients, lora_input_gradient, lora_outer):
    _op.register_autograd(_no_second_derivative)
