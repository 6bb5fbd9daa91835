"""shrink: rows times factors, [M, k] -> [M, groups * r]."""

from __future__ import annotations

import triton
import triton.language as tl

from llgbm.lora_kernels.kernels.addressing import rank_of, segment


# Counts that change with the batch compile nothing anew.
@triton.jit(do_not_specialize=["m", "row_tiles", "k_of_a_split"])
def shrink_kernel(
    x_ptr, w0_ptr, w1_ptr, w2_ptr, scale_ptr, ranks_ptr, offsets_ptr, y_ptr,
    m, k, r, row_tiles, k_of_a_split,
    x_m, w0_n, w0_r, w0_k, w1_n, w1_r, w1_k, w2_n, w2_r, w2_k, y_s, y_m,
    GROUPS: tl.constexpr, SCALED: tl.constexpr, MIXED: tl.constexpr, RAGGED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """y[split, row, g * r + j] = scale[a] * sum over k of x[row, k] w_g[a, j, k].

    One program reads BLOCK_M rows of one adapter once for all groups, over one split of k. Splits
    are added up afterwards, in their order.
    """
    adapter = tl.program_id(0) // row_tiles
    first = tl.program_id(0) % row_tiles * BLOCK_M
    split = tl.program_id(1)
    start, length = segment(offsets_ptr, adapter, m, RAGGED)
    if first >= length:
        return
    inside = first + tl.arange(0, BLOCK_M) < length
    local = tl.arange(0, BLOCK_M)
    ranks = tl.arange(0, BLOCK_R)
    known = ranks < rank_of(ranks_ptr, adapter, r, MIXED)
    wide = adapter.to(tl.int64)
    x_ptr += (start + first) * x_m
    w0_ptr += wide * w0_n
    w1_ptr += wide * w1_n
    w2_ptr += wide * w2_n
    total0 = tl.zeros((BLOCK_M, BLOCK_R), dtype=tl.float32)
    total1 = tl.zeros((BLOCK_M, BLOCK_R), dtype=tl.float32)
    total2 = tl.zeros((BLOCK_M, BLOCK_R), dtype=tl.float32)
    begin = split * k_of_a_split
    end = tl.minimum(k, begin + k_of_a_split)
    for low in range(begin, end, BLOCK_K):
        columns = low + tl.arange(0, BLOCK_K)
        left = columns < end
        x = tl.load(
            x_ptr + local[:, None] * x_m + columns[None, :],
            mask=inside[:, None] & left[None, :],
            other=0.0,
        )
        mask = known[None, :] & left[:, None]
        w = tl.load(w0_ptr + ranks[None, :] * w0_r + columns[:, None] * w0_k, mask=mask, other=0.0)
        total0 = tl.dot(x, w.to(x.dtype), total0, input_precision="ieee")
        if GROUPS > 1:
            w = tl.load(
                w1_ptr + ranks[None, :] * w1_r + columns[:, None] * w1_k, mask=mask, other=0.0
            )
            total1 = tl.dot(x, w.to(x.dtype), total1, input_precision="ieee")
        if GROUPS > 2:
            w = tl.load(
                w2_ptr + ranks[None, :] * w2_r + columns[:, None] * w2_k, mask=mask, other=0.0
            )
            total2 = tl.dot(x, w.to(x.dtype), total2, input_precision="ieee")
    if SCALED:
        scale = tl.load(scale_ptr + adapter).to(tl.float32)
        total0 *= scale
        total1 *= scale
        total2 *= scale
    # Ranks that do not count are written as zeros, so that no reader needs to know of them.
    places = y_ptr + split.to(tl.int64) * y_s + (start + first) * y_m
    places = places + local[:, None] * y_m + ranks[None, :]
    mask = inside[:, None] & (ranks[None, :] < r)
    kind = y_ptr.dtype.element_ty
    tl.store(places, total0.to(kind), mask=mask)
    if GROUPS > 1:
        tl.store(places + r, total1.to(kind), mask=mask)
    if GROUPS > 2:
        tl.store(places + 2 * r, total2.to(kind), mask=mask)
