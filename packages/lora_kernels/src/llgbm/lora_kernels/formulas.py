"""Forward and backward of a group of adapted linears, on any backend.

All of them take flat rows and groups of layers that read the same x (q, k and v, say): the low-rank
rows of all groups stand side by side in one u [M, G r], so that x is read once, and the groups
share one gradient of x.
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


@_without_autocast
def forward(
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


@_without_autocast
def backward(
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
    """The gradients that are needed, in one list.

    Args:
        dys: G of [M, out_g], contiguous.
        x, u, weights, lora_A, lora_B, scaling: as in the forward.
        offsets, ranks, longest, backend: likewise.
        need_x, need_A, need_B, need_scaling: what is wanted.

    Returns:
        dx [M, in] in x's dtype; dA of all groups side by side [n, G r, in]; of every group dBᵀ
        [n, r, out_g]; ds [n]: those wanted, float32 but for dx (float64 in float64).
    """
    n = len(scaling)
    rows = Rows(n, longest, offsets, ranks)
    module = _backend(backend)
    r = lora_A[0].shape[1]
    found: list[Tensor] = []
    if need_x or need_A:
        # v = s dy_g B_g, side by side as u is.
        parts = [
            module.shrink(dy, [B.mT], scaling, rows) for dy, B in zip(dys, lora_B, strict=True)
        ]
        v = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        if need_x:
            found.append(module.input_gradient(dys, weights, v, lora_A, rows))
        if need_A:
            found.append(_counting(module.outer(v, x, None, rows), ranks, r))
    if need_B or need_scaling:
        dscaling = torch.zeros(n, dtype=wide(x), device=x.device)
        for g, dy in enumerate(dys):
            # The scaling waits where its own gradient is wanted.
            waiting = None if need_scaling else scaling
            product = module.outer(u[:, g * r : (g + 1) * r], dy, waiting, rows)
            product = _counting(product, ranks, r)
            if need_scaling:
                dscaling += (product * _counting(lora_B[g].mT, ranks, r)).sum((1, 2))
                product = product * scaling.to(product.dtype)[:, None, None]
            if need_B:
                found.append(product)
        if need_scaling:
            found.append(dscaling)
    return found


def wide(x: Tensor) -> torch.dtype:
    """Dtype that gradients of factors are computed in: float32, or float64 for float64."""
    return torch.promote_types(x.dtype, torch.float32)


def _counting(g: Tensor, ranks: Tensor | None, r: int) -> Tensor:
    """g [n, G r, k] with zeros in ranks that do not count, whatever NaN the rows may bring."""
    if ranks is None:
        return g
    counts = torch.arange(g.shape[1], device=g.device) % r < ranks[:, None]
    return torch.where(counts[:, :, None], g, 0)


def gathered(
    found: Sequence[Tensor],
    lora_A: Sequence[Tensor],
    lora_B: Sequence[Tensor],
    scaling: Tensor,
    need_x: bool,
    need_A: Sequence[bool],
    need_B: Sequence[bool],
    need_scaling: bool,
) -> tuple[Tensor | None, list[Tensor | None], list[Tensor | None], Tensor | None]:
    """What `backward` found, as gradients of x, each A, each B and the scaling, in their dtypes."""
    left = iter(found)
    dx = next(left) if need_x else None
    dA: list[Tensor | None] = [None] * len(lora_A)
    dB: list[Tensor | None] = [None] * len(lora_B)
    if any(need_A):
        parts = next(left).chunk(len(lora_A), 1)
        dA = [
            part.to(A.dtype) if needed else None
            for part, A, needed in zip(parts, lora_A, need_A, strict=True)
        ]
    if any(need_B):
        products = [next(left) for _ in lora_B]
        dB = [
            product.mT.to(B.dtype) if needed else None
            for product, B, needed in zip(products, lora_B, need_B, strict=True)
        ]
    return dx, dA, dB, next(left).to(scaling.dtype) if need_scaling else None


def rows_of_gradients(
    grads: Sequence[Tensor | None], x: Tensor, weights: Sequence[Tensor]
) -> list[Tensor]:
    """dy of each layer, contiguous; zeros for an output that nobody used."""
    return [
        x.new_zeros(x.shape[0], weight.shape[0]) if dy is None else dy.contiguous()
        for dy, weight in zip(grads, weights, strict=True)
    ]


def bias_gradients(
    dys: Sequence[Tensor], dtypes: Sequence[torch.dtype], needed: Sequence[bool]
) -> list[Tensor | None]:
    """Sum of each dy over its rows, for the biases that want it."""
    return [
        dy.sum(0, dtype=wide(dy)).to(dtype) if wanted else None
        for dy, dtype, wanted in zip(dys, dtypes, needed, strict=False)
    ]
