"""fused: the base product with the adapters' part added before the tile is written."""

from __future__ import annotations

import triton
import triton.language as tl

from llgbm.lora_kernels.kernels.addressing import rank_of, segment


# Counts that change with the batch compile nothing anew.
@triton.jit(do_not_specialize=["m", "row_tiles", "column_tiles"])
def fused_kernel(
    x_ptr, weight_ptr, u_ptr, w_ptr, scale_ptr, ranks_ptr, offsets_ptr, bias_ptr, y_ptr,
    m, k, out, r, row_tiles, column_tiles,
    x_m, weight_o, weight_k, u_m, w_n, w_r, w_o, y_m,
    SCALED: tl.constexpr, MIXED: tl.constexpr, RAGGED: tl.constexpr, BIASED: tl.constexpr,
    ACCUMULATE: tl.constexpr, TILES_TOGETHER: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """y[row, o] (+)= x[row, :] weight[o, :] + bias[o] + scale[a] * u[row, :] w[a, :, o].

    One program owns one tile of y, which holds rows of one adapter alone. Neighbouring programs
    take TILES_TOGETHER row tiles of the same columns, so that the weight stays in the L2 cache.
    """
    pid = tl.program_id(0)
    of_an_adapter = row_tiles * column_tiles
    adapter = pid // of_an_adapter
    within = pid % of_an_adapter
    band = TILES_TOGETHER * column_tiles
    band_first = within // band * TILES_TOGETHER
    band_rows = tl.minimum(row_tiles - band_first, TILES_TOGETHER)
    row_tile = band_first + within % band % band_rows
    column_tile = within % band // band_rows
    first = row_tile * BLOCK_M
    start, length = segment(offsets_ptr, adapter, m, RAGGED)
    if first >= length:
        return
    local = tl.arange(0, BLOCK_M)
    inside = first + local < length
    columns = column_tile * BLOCK_N + tl.arange(0, BLOCK_N)
    left = columns < out
    inner = tl.arange(0, BLOCK_K)
    x_places = x_ptr + (start + first) * x_m + local[:, None] * x_m + inner[None, :]
    weight_places = weight_ptr + columns[None, :].to(tl.int64) * weight_o
    weight_places = weight_places + inner[:, None] * weight_k
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for low in range(0, k, BLOCK_K):
        remaining = inner < k - low
        x = tl.load(x_places, mask=inside[:, None] & remaining[None, :], other=0.0)
        weight = tl.load(weight_places, mask=remaining[:, None] & left[None, :], other=0.0)
        total = tl.dot(x, weight, total, input_precision="ieee")
        x_places += BLOCK_K
        weight_places += BLOCK_K * weight_k
    wide = adapter.to(tl.int64)
    known = rank_of(ranks_ptr, adapter, r, MIXED)
    scale = 1.0
    if SCALED:
        scale = tl.load(scale_ptr + adapter).to(tl.float32)
    for low in range(0, known, BLOCK_R):
        ranks = low + tl.arange(0, BLOCK_R)
        u = tl.load(
            u_ptr + (start + first) * u_m + local[:, None] * u_m + ranks[None, :],
            mask=inside[:, None] & (ranks[None, :] < known),
            other=0.0,
        )
        w = tl.load(
            w_ptr + wide * w_n + ranks[:, None] * w_r + columns[None, :] * w_o,
            mask=(ranks[:, None] < known) & left[None, :],
            other=0.0,
        )
        if SCALED:
            u = (u.to(tl.float32) * scale).to(u.dtype)
        total = tl.dot(u, w.to(u.dtype), total, input_precision="ieee")
    if BIASED:
        total += tl.load(bias_ptr + columns, mask=left, other=0.0).to(tl.float32)[None, :]
    places = y_ptr + (start + first) * y_m + local[:, None] * y_m + columns[None, :]
    mask = inside[:, None] & left[None, :]
    if ACCUMULATE:
        total += tl.load(places, mask=mask, other=0.0).to(tl.float32)
    tl.store(places, total.to(y_ptr.dtype.element_ty), mask=mask)
