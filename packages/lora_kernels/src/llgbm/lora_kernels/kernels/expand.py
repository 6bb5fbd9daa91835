"""expand: the low-rank rows back to full width, [M, groups * r] -> [M, k]."""

from __future__ import annotations

import triton
import triton.language as tl

from llgbm.lora_kernels.kernels.addressing import rank_of, segment


# Counts that change with the batch compile nothing anew.
@triton.jit(do_not_specialize=["m", "row_tiles", "column_tiles"])
def expand_kernel(
    u_ptr, w0_ptr, w1_ptr, w2_ptr, scale_ptr, ranks_ptr, offsets_ptr, bias_ptr, y_ptr,
    m, k, r, row_tiles, column_tiles,
    u_m, w0_n, w0_r, w0_k, w1_n, w1_r, w1_k, w2_n, w2_r, w2_k, y_m,
    GROUPS: tl.constexpr, SCALED: tl.constexpr, MIXED: tl.constexpr, RAGGED: tl.constexpr,
    BIASED: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """y[row, k] = bias[k] + scale[a] * sum over g, j of u[row, g * r + j] w_g[a, j, k].

    One program owns one tile of y.
    """
    pid = tl.program_id(0)
    column_tile = pid % column_tiles
    adapter = pid // column_tiles // row_tiles
    first = pid // column_tiles % row_tiles * BLOCK_M
    start, length = segment(offsets_ptr, adapter, m, RAGGED)
    if first >= length:
        return
    local = tl.arange(0, BLOCK_M)
    inside = first + local < length
    columns = column_tile * BLOCK_K + tl.arange(0, BLOCK_K)
    left = columns < k
    known = rank_of(ranks_ptr, adapter, r, MIXED)
    wide = adapter.to(tl.int64)
    u_rows = u_ptr + (start + first) * u_m + local[:, None] * u_m
    w0_ptr += wide * w0_n
    w1_ptr += wide * w1_n
    w2_ptr += wide * w2_n
    update = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
    # All ranks at once would not fit in registers at the larger ones.
    for low in range(0, known, BLOCK_R):
        ranks = low + tl.arange(0, BLOCK_R)
        u_mask = inside[:, None] & (ranks[None, :] < known)
        w_mask = (ranks[:, None] < known) & left[None, :]
        u = tl.load(u_rows + ranks[None, :], mask=u_mask, other=0.0)
        w = tl.load(
            w0_ptr + ranks[:, None] * w0_r + columns[None, :] * w0_k, mask=w_mask, other=0.0
        )
        update = tl.dot(u, w.to(u.dtype), update, input_precision="ieee")
        if GROUPS > 1:
            u = tl.load(u_rows + r + ranks[None, :], mask=u_mask, other=0.0)
            w = tl.load(
                w1_ptr + ranks[:, None] * w1_r + columns[None, :] * w1_k, mask=w_mask, other=0.0
            )
            update = tl.dot(u, w.to(u.dtype), update, input_precision="ieee")
        if GROUPS > 2:
            u = tl.load(u_rows + 2 * r + ranks[None, :], mask=u_mask, other=0.0)
            w = tl.load(
                w2_ptr + ranks[:, None] * w2_r + columns[None, :] * w2_k, mask=w_mask, other=0.0
            )
            update = tl.dot(u, w.to(u.dtype), update, input_precision="ieee")
    if SCALED:
        update *= tl.load(scale_ptr + adapter).to(tl.float32)
    if BIASED:
        update += tl.load(bias_ptr + columns, mask=left, other=0.0).to(tl.float32)[None, :]
    places = y_ptr + (start + first) * y_m + local[:, None] * y_m + columns[None, :]
    mask = inside[:, None] & left[None, :]
    tl.store(places, update.to(y_ptr.dtype.element_ty), mask=mask)
