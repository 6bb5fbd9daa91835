"""The fully fused backend: base product and adapters' part in one kernel.

shrink and outer are those of the Triton backend; what differs is that y (and dx) is written once,
at the price of a GEMM that is Triton's and not the vendor's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from llgbm.lora_kernels.dispatch import describe_device, fused_tiles, overridden
from llgbm.lora_kernels.kernels.fused import fused_kernel
from llgbm.lora_kernels.rows import Rows
from llgbm.lora_kernels.triton_backend import (
    _optional,
    addressable,
    outer,
    shrink,
)

__all__ = ["adapted", "input_gradient", "outer", "shrink"]

# Row tiles that pass through one column tile of the weight together.
TILES_TOGETHER = 8


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
    _fused(y, x, weight, u, w, scaling, bias, rows, accumulate=False)
    return y


def input_gradient(
    dys: Sequence[Tensor],
    weights: Sequence[Tensor],
    v: Tensor,
    lora_A: Sequence[Tensor],
    rows: Rows,
) -> Tensor:
    """Return the sum over g of dy_g weight_g + v_g A_g: dy_g [M, out_g], v [M, G r] -> [M, in]."""
    dx = dys[0].new_empty(len(v), weights[0].shape[1])
    r = lora_A[0].shape[1]
    for g, (dy, weight, A) in enumerate(zip(dys, weights, lora_A, strict=True)):
        part = v[:, g * r : (g + 1) * r]
        _fused(dx, dy, weight.mT, part, A, None, None, rows, accumulate=g > 0)
    return dx


def _fused(
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    u: Tensor,
    w: Tensor,
    scaling: Tensor | None,
    bias: Tensor | None,
    rows: Rows,
    accumulate: bool,
) -> None:
    """Write (or add) x weightᵀ + bias + s u w to y: weight [out, k] of any strides."""
    x, u, w = addressable(x), addressable(u), addressable(w)
    M, k = x.shape
    out, r = len(weight), u.shape[1]
    tiles = overridden("fused") or fused_tiles(
        describe_device(x.device), x.element_size(), rows.longest, r
    )
    row_tiles, column_tiles = (
        triton.cdiv(rows.longest, tiles.block_m),
        triton.cdiv(out, tiles.block_n),
    )
    if not (M and rows.n):
        return
    with torch.cuda.device_of(x):
        fused_kernel[(rows.n * row_tiles * column_tiles,)](
            x, weight, u, w, *_optional(x, scaling, rows, bias), y,
            rows.longest, k, out, r, row_tiles, column_tiles,
            x.stride(0), *weight.stride(), u.stride(0), *w.stride(), y.stride(0),
            SCALED=scaling is not None, MIXED=rows.ranks is not None,
            RAGGED=rows.offsets is not None, BIASED=bias is not None, ACCUMULATE=accumulate,
            TILES_TOGETHER=TILES_TOGETHER, BLOCK_M=tiles.block_m, BLOCK_N=tiles.block_n,
            BLOCK_K=tiles.block_k, BLOCK_R=tiles.block_r,
            num_warps=tiles.num_warps, num_stages=tiles.num_stages,
        )  # fmt: skip
