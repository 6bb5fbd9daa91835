"""outer: gradients of the factors, one adapter's rows summed up."""

from __future__ import annotations

import triton
import triton.language as tl

from llgbm.lora_kernels.kernels.addressing import segment


# Counts that change with the batch compile nothing anew.
@triton.jit(do_not_specialize=["m", "rank_tiles", "column_tiles", "splits"])
def outer_kernel(
    u_ptr, x_ptr, scale_ptr, offsets_ptr, g_ptr,
    m, k, r, rank_tiles, column_tiles, splits,
    u_m, x_m, g_s, g_n, g_r,
    SCALED: tl.constexpr, RAGGED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """g[split, a, j, k] = scale[a] * sum over the split's rows of u[row, j] x[row, k], float32.

    One program owns one tile of one adapter's gradient and walks through its rows in order: no
    atomics, the same bits on every run. Splits are added up afterwards, in their order.
    """
    pid = tl.program_id(0)
    split = tl.program_id(1)
    column_tile = pid % column_tiles
    rank_tile = pid // column_tiles % rank_tiles
    adapter = pid // column_tiles // rank_tiles
    start, length = segment(offsets_ptr, adapter, m, RAGGED)
    of_a_split = tl.cdiv(tl.cdiv(length, splits), BLOCK_M) * BLOCK_M
    begin = split * of_a_split
    end = tl.minimum(length, begin + of_a_split)
    columns = column_tile * BLOCK_K + tl.arange(0, BLOCK_K)
    ranks = rank_tile * BLOCK_R + tl.arange(0, BLOCK_R)
    local = tl.arange(0, BLOCK_M)
    # Pointers walk along, so that rows times stride may pass 2^31.
    first = start + begin
    u_places = u_ptr + first * u_m + local[None, :] * u_m + ranks[:, None]
    x_places = x_ptr + first * x_m + local[:, None] * x_m + columns[None, :]
    total = tl.zeros((BLOCK_R, BLOCK_K), dtype=tl.float32)
    for low in range(begin, end, BLOCK_M):
        inside = low + local < end
        u = tl.load(u_places, mask=inside[None, :] & (ranks[:, None] < r), other=0.0)
        x = tl.load(x_places, mask=inside[:, None] & (columns[None, :] < k), other=0.0)
        total = tl.dot(u.to(x.dtype), x, total, input_precision="ieee")
        u_places += BLOCK_M * u_m
        x_places += BLOCK_M * x_m
    if SCALED:
        total *= tl.load(scale_ptr + adapter).to(tl.float32)
    places = g_ptr + split.to(tl.int64) * g_s + adapter.to(tl.int64) * g_n
    places = places + ranks[:, None].to(tl.int64) * g_r + columns[None, :]
    mask = (ranks[:, None] < r) & (columns[None, :] < k)
    tl.store(places, total.to(g_ptr.dtype.element_ty), mask=mask)
