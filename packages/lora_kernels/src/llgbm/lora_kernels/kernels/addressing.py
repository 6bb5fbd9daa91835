"""Where a program's rows lie: shared by all kernels."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def segment(offsets_ptr, adapter, m, RAGGED: tl.constexpr):
    """First row (int64) and number of rows of an adapter."""
    if RAGGED:
        start = tl.load(offsets_ptr + adapter).to(tl.int64)
        length = (tl.load(offsets_ptr + adapter + 1).to(tl.int64) - start).to(tl.int32)
    else:
        start = adapter.to(tl.int64) * m
        length = m
    return start, length


@triton.jit
def rank_of(ranks_ptr, adapter, r, MIXED: tl.constexpr):
    """How many of the r columns of an adapter's factors count."""
    if MIXED:
        return tl.load(ranks_ptr + adapter).to(tl.int32)
    return r
