"""The Triton backend: the base product by torch (cuBLAS), the adapters' part by three kernels.

The adapters' part is written first and the base product adds itself to it (beta = 1): that reads
and writes y once less than the other order, since a GEMM reads its addend behind its products.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from llgbm.lora_kernels.dispatch import (
    Tiles,
    describe_device,
    expand_tiles,
    outer_tiles,
    overridden,
    shrink_tiles,
)
from llgbm.lora_kernels.kernels.expand import expand_kernel
from llgbm.lora_kernels.kernels.outer import outer_kernel
from llgbm.lora_kernels.kernels.shrink import shrink_kernel
from llgbm.lora_kernels.rows import Rows

# Products of places within one adapter are int32 in the kernels.
INT32 = 2**31 - 1


def adapted(
    x: Tensor,
    weight: Tensor,
    u: Tensor,
    w: Tensor,
    scaling: Tensor,
    bias: Tensor | None,
    rows: Rows,
) -> Tensor:
    """Return x weightᵀ + bias + s u w: x [M, in], u [M, r], w [n, r, out] -> [M, out]."""
    y = x.new_empty(len(x), len(weight))
    expand(y, u, [w], scaling, bias, rows)
    return y.addmm_(x, weight.mT)


def input_gradient(
    dys: Sequence[Tensor],
    weights: Sequence[Tensor],
    v: Tensor,
    lora_A: Sequence[Tensor],
    rows: Rows,
) -> Tensor:
    """Return the sum over g of dy_g weight_g + v_g A_g: dy_g [M, out_g], v [M, G r] -> [M, in]."""
    dx = dys[0].new_empty(len(v), weights[0].shape[1])
    expand(dx, v, lora_A, None, None, rows)
    for dy, weight in zip(dys, weights, strict=True):
        dx.addmm_(dy, weight)
    return dx


def shrink(x: Tensor, factors: Sequence[Tensor], scaling: Tensor | None, rows: Rows) -> Tensor:
    """Return s x w_gᵀ side by side: x [M, k], w_g [n, r, k] -> [M, G r] in x's dtype."""
    x = addressable(x)
    factors = [addressable(w) for w in factors]
    M, k = x.shape
    r, groups = factors[0].shape[1], len(factors)
    tiles = overridden("shrink") or shrink_tiles(
        describe_device(x.device),
        x.element_size(),
        max(w.element_size() for w in factors),
        rows.n,
        rows.longest,
        k,
        r,
        groups,
    )
    require_ranks("shrink", tiles, r)
    k_of_a_split = triton.cdiv(triton.cdiv(k, tiles.splits), tiles.block_k) * tiles.block_k
    splits = triton.cdiv(k, k_of_a_split)
    kind = x.dtype if splits == 1 else torch.float32
    y = torch.empty(splits, M, groups * r, dtype=kind, device=x.device)
    row_tiles = triton.cdiv(rows.longest, tiles.block_m)
    if M and rows.n:
        w0, w1, w2 = [*factors, *[factors[0]] * (3 - groups)]
        with torch.cuda.device_of(x):
            shrink_kernel[(rows.n * row_tiles, splits)](
                x, w0, w1, w2, *_optional(x, scaling, rows)[:3], y,
                rows.longest, k, r, row_tiles, k_of_a_split,
                x.stride(0), *w0.stride(), *w1.stride(), *w2.stride(), y.stride(0), y.stride(1),
                GROUPS=groups, SCALED=scaling is not None, MIXED=rows.ranks is not None,
                RAGGED=rows.offsets is not None, BLOCK_M=tiles.block_m, BLOCK_K=tiles.block_k,
                BLOCK_R=tiles.block_r, num_warps=tiles.num_warps, num_stages=tiles.num_stages,
            )  # fmt: skip
    return y[0] if splits == 1 else y.sum(0).to(x.dtype)


def expand(
    y: Tensor,
    u: Tensor,
    factors: Sequence[Tensor],
    scaling: Tensor | None,
    bias: Tensor | None,
    rows: Rows,
) -> None:
    """Write s u_g w_g + bias, summed over g, to y: u [M, G r], w_g [n, r, k], y [M, k].

    Raises:
        ValueError: rows of y that share memory, which programs would write at once.
    """
    if len(y) > 1 and (y.stride(1) != 1 or y.stride(0) < y.shape[1]):
        raise ValueError(f"y: expected rows apart in memory, got strides {y.stride()}")
    u = addressable(u)
    factors = [addressable(w) for w in factors]
    M, k = y.shape
    r, groups = factors[0].shape[1], len(factors)
    tiles = overridden("expand") or expand_tiles(y.element_size(), rows.longest, r)
    row_tiles, column_tiles = (
        triton.cdiv(rows.longest, tiles.block_m),
        triton.cdiv(k, tiles.block_k),
    )
    if not (M and rows.n):
        return
    w0, w1, w2 = [*factors, *[factors[0]] * (3 - groups)]
    with torch.cuda.device_of(y):
        expand_kernel[(rows.n * row_tiles * column_tiles,)](
            u, w0, w1, w2, *_optional(u, scaling, rows, bias), y,
            rows.longest, k, r, row_tiles, column_tiles,
            u.stride(0), *w0.stride(), *w1.stride(), *w2.stride(), y.stride(0),
            GROUPS=groups, SCALED=scaling is not None, MIXED=rows.ranks is not None,
            RAGGED=rows.offsets is not None, BIASED=bias is not None,
            BLOCK_M=tiles.block_m, BLOCK_K=tiles.block_k, BLOCK_R=tiles.block_r,
            num_warps=tiles.num_warps, num_stages=tiles.num_stages,
        )  # fmt: skip


def outer(u: Tensor, x: Tensor, scaling: Tensor | None, rows: Rows) -> Tensor:
    """Return s uᵀ x of each adapter: u [M, R], x [M, k] -> [n, R, k] float32."""
    u, x = addressable(u), addressable(x)
    k, ranks = x.shape[1], u.shape[1]
    tiles = overridden("outer") or outer_tiles(
        describe_device(x.device), x.element_size(), rows.n, rows.longest, k, ranks
    )
    g = torch.empty(tiles.splits, rows.n, ranks, k, dtype=torch.float32, device=x.device)
    rank_tiles, column_tiles = triton.cdiv(ranks, tiles.block_r), triton.cdiv(k, tiles.block_k)
    if rows.n:
        scale, _, offsets, _ = _optional(x, scaling, rows)
        with torch.cuda.device_of(x):
            outer_kernel[(rows.n * rank_tiles * column_tiles, tiles.splits)](
                u, x, scale, offsets, g,
                rows.longest, k, ranks, rank_tiles, column_tiles, tiles.splits,
                u.stride(0), x.stride(0), g.stride(0), g.stride(1), g.stride(2),
                SCALED=scaling is not None, RAGGED=rows.offsets is not None,
                BLOCK_M=tiles.block_m, BLOCK_K=tiles.block_k, BLOCK_R=tiles.block_r,
                num_warps=tiles.num_warps, num_stages=tiles.num_stages,
            )  # fmt: skip
    return g[0] if tiles.splits == 1 else g.sum(0)


def require_ranks(kernel: str, tiles: Tiles, r: int) -> None:
    """Raise ValueError where `use_tiles` asks for tiles that hold fewer ranks than there are."""
    if tiles.block_r < r:
        raise ValueError(f"{kernel}: block_r: expected at least the rank, {r}, got {tiles.block_r}")


def addressable(tensor: Tensor) -> Tensor:
    """The tensor, copied where the kernels could not walk through it.

    Rows [M, k] must have their columns side by side; factors [n, r, k] may have any strides, so
    long as one adapter's places fit in int32 (adapters themselves are int64 apart).
    """
    if tensor.dim() == 2:
        near = tensor.stride(1) == 1 or tensor.shape[1] == 1
        # 256 rows: more than the largest tile.
        return tensor if near and 256 * abs(tensor.stride(0)) < INT32 else tensor.contiguous()
    reach = sum((s - 1) * d for s, d in zip(tensor.shape[1:], tensor.stride()[1:], strict=True))
    return tensor if 2 * reach < INT32 else tensor.contiguous()


def _optional(
    x: Tensor, scaling: Tensor | None, rows: Rows, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scaling, ranks, offsets and bias, or x in their places, which is then not read."""
    return (
        x if scaling is None else scaling.contiguous(),
        x if rows.ranks is None else rows.ranks,
        x if rows.offsets is None else rows.offsets,
        x if bias is None else bias.contiguous(),
    )
