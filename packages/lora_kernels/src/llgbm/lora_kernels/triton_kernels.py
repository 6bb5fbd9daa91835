"""Triton kernels of the adapters' part: shrink, expand, outer.

Plain and correct at every size; one program owns one tile of one adapter and walks through the
rest in a fixed order, without atomics, so that a second run gives the same bits. Tiles multiply in
the dtype of the activations and add up in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def shrink_kernel(
    x_ptr, w_ptr, scale_ptr, y_ptr, m, k, r,
    x_n, x_m, x_k, w_n, w_r, w_k, y_n, y_m, y_r,
    SCALED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """y[n, m, r] = scale[n] * x[n, m, k] w[n, r, k]ᵀ; a program: BLOCK_M rows of one adapter."""
    adapter = tl.program_id(0)
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    ranks = tl.arange(0, BLOCK_R)
    total = tl.zeros((BLOCK_M, BLOCK_R), dtype=tl.float32)
    for start in range(0, k, BLOCK_K):
        columns = start + tl.arange(0, BLOCK_K)
        x = tl.load(
            x_ptr + adapter * x_n + rows[:, None] * x_m + columns[None, :] * x_k,
            mask=(rows[:, None] < m) & (columns[None, :] < k),
            other=0.0,
        )
        w = tl.load(
            w_ptr + adapter * w_n + ranks[None, :] * w_r + columns[:, None] * w_k,
            mask=(ranks[None, :] < r) & (columns[:, None] < k),
            other=0.0,
        )
        total += tl.dot(x, w.to(x.dtype), input_precision="ieee")
    if SCALED:
        total *= tl.load(scale_ptr + adapter).to(tl.float32)
    tl.store(
        y_ptr + adapter * y_n + rows[:, None] * y_m + ranks[None, :] * y_r,
        total.to(y_ptr.dtype.element_ty),
        mask=(rows[:, None] < m) & (ranks[None, :] < r),
    )


@triton.jit
def expand_kernel(
    u_ptr, w_ptr, scale_ptr, y_ptr, m, k, r,
    u_n, u_m, u_r, w_n, w_r, w_k, y_n, y_m, y_k,
    SCALED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """y[n, m, k] += scale[n] * u[n, m, r] w[n, r, k]; a program: one tile of y, in place."""
    adapter = tl.program_id(0)
    rows = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    columns = tl.program_id(2) * BLOCK_K + tl.arange(0, BLOCK_K)
    ranks = tl.arange(0, BLOCK_R)
    u = tl.load(
        u_ptr + adapter * u_n + rows[:, None] * u_m + ranks[None, :] * u_r,
        mask=(rows[:, None] < m) & (ranks[None, :] < r),
        other=0.0,
    )
    w = tl.load(
        w_ptr + adapter * w_n + ranks[:, None] * w_r + columns[None, :] * w_k,
        mask=(ranks[:, None] < r) & (columns[None, :] < k),
        other=0.0,
    )
    update = tl.dot(u, w.to(u.dtype), input_precision="ieee")
    if SCALED:
        update *= tl.load(scale_ptr + adapter).to(tl.float32)
    places = y_ptr + adapter * y_n + rows[:, None] * y_m + columns[None, :] * y_k
    inside = (rows[:, None] < m) & (columns[None, :] < k)
    old = tl.load(places, mask=inside, other=0.0).to(tl.float32)
    tl.store(places, (old + update).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def outer_kernel(
    u_ptr, x_ptr, g_ptr, m, k, r,
    u_n, u_m, u_r, x_n, x_m, x_k, g_n, g_r, g_k,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """g[n, r, k] = u[n, m, r]ᵀ x[n, m, k] in float32; a program: BLOCK_K columns of one adapter."""
    adapter = tl.program_id(0)
    columns = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    ranks = tl.arange(0, BLOCK_R)
    total = tl.zeros((BLOCK_R, BLOCK_K), dtype=tl.float32)
    for start in range(0, m, BLOCK_M):
        rows = start + tl.arange(0, BLOCK_M)
        u = tl.load(
            u_ptr + adapter * u_n + rows[None, :] * u_m + ranks[:, None] * u_r,
            mask=(rows[None, :] < m) & (ranks[:, None] < r),
            other=0.0,
        )
        x = tl.load(
            x_ptr + adapter * x_n + rows[:, None] * x_m + columns[None, :] * x_k,
            mask=(rows[:, None] < m) & (columns[None, :] < k),
            other=0.0,
        )
        total += tl.dot(u.to(x.dtype), x, input_precision="ieee")
    tl.store(
        g_ptr + adapter * g_n + ranks[:, None] * g_r + columns[None, :] * g_k,
        total,
        mask=(ranks[:, None] < r) & (columns[None, :] < k),
    )
