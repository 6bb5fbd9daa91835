"""The torch backend: batched products, accumulated in place.

The products run in the dtype of the activations, which a GEMM adds up in float32. Ragged rows walk
through their segments; on a GPU that waits for the offsets, so the Triton backend is the one for
them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.lora_kernels.rows import Rows


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
    y = F.linear(x, weight, bias)
    _add_expanded(y, u, _counting(w, rows), scaling, rows)
    return y


def input_gradient(
    dys: Sequence[Tensor],
    weights: Sequence[Tensor],
    v: Tensor,
    lora_A: Sequence[Tensor],
    rows: Rows,
) -> Tensor:
    """Return the sum over g of dy_g weight_g + v_g A_g: dy_g [M, out_g], v [M, G r] -> [M, in]."""
    dx = dys[0] @ weights[0]
    for dy, weight in zip(dys[1:], weights[1:], strict=True):
        dx.addmm_(dy, weight)
    factors = [_counting(A, rows) for A in lora_A]
    _add_expanded(dx, v, factors[0] if len(factors) == 1 else torch.cat(factors, 1), None, rows)
    return dx


def shrink(x: Tensor, factors: Sequence[Tensor], scaling: Tensor | None, rows: Rows) -> Tensor:
    """Return s x w_gᵀ side by side: x [M, k], w_g [n, r, k] -> [M, G r] in x's dtype."""
    kept = [_counting(w, rows) for w in factors]
    w = (kept[0] if len(kept) == 1 else torch.cat(kept, 1)).to(x.dtype)
    if rows.offsets is None:
        u = torch.bmm(x.view(rows.n, rows.longest, x.shape[1]), w.mT).flatten(0, 1)
    else:
        u = x.new_empty(len(x), w.shape[1])
        for adapter, part in _segments(rows):
            torch.mm(x[part], w[adapter].mT, out=u[part])
    return u if scaling is None else _scaled(u, scaling, rows)


def outer(u: Tensor, x: Tensor, scaling: Tensor | None, rows: Rows) -> Tensor:
    """Return s uᵀ x of each adapter: u [M, R], x [M, k] -> [n, R, k] in at least float32."""
    wide = torch.promote_types(x.dtype, torch.float32)
    if x.dtype == torch.float16:
        # A sum over many rows leaves the range of float16 long before that of bfloat16.
        u, x = u.float(), x.float()
    if rows.offsets is None:
        shape = (rows.n, rows.longest, -1)
        g = torch.bmm(u.view(*shape[:2], u.shape[1]).mT, x.view(*shape[:2], x.shape[1])).to(wide)
    else:
        g = x.new_zeros(rows.n, u.shape[1], x.shape[1], dtype=wide)
        for adapter, part in _segments(rows):
            g[adapter] = u[part].mT @ x[part]
    return g if scaling is None else g.mul_(scaling.to(wide)[:, None, None])


def _add_expanded(y: Tensor, u: Tensor, w: Tensor, scaling: Tensor | None, rows: Rows) -> None:
    """Add s u w to y in place: u [M, R], w [n, R, k], y [M, k]."""
    w = w.to(y.dtype)
    if scaling is not None:
        u = _scaled(u, scaling, rows)
    if rows.offsets is None:
        shape = (rows.n, rows.longest)
        y.view(*shape, y.shape[1]).baddbmm_(u.unflatten(0, shape), w)
        return
    for adapter, part in _segments(rows):
        y[part].addmm_(u[part], w[adapter])


def _scaled(u: Tensor, scaling: Tensor, rows: Rows) -> Tensor:
    """s u in u's dtype: multiplied in the scaling's, for a large one need not fit in float16."""
    if rows.offsets is None:
        batched = u.unflatten(0, (rows.n, rows.longest)) * scaling[:, None, None]
        return batched.to(u.dtype).flatten(0, 1)
    of_rows = scaling.repeat_interleave(rows.offsets.diff(), output_size=len(u))
    return (u * of_rows[:, None]).to(u.dtype)


def _counting(w: Tensor, rows: Rows) -> Tensor:
    """w [n, r, k] with zeros in ranks that do not count; what stands there may be NaN."""
    if rows.ranks is None or w.shape[1] == 1:
        return w
    counts = torch.arange(w.shape[1], device=w.device) < rows.ranks[:, None]
    return torch.where(counts[:, :, None], w, 0)


def _segments(rows: Rows) -> Iterator[tuple[int, slice]]:
    """Adapters with rows, and which."""
    assert rows.offsets is not None
    for adapter, (start, end) in enumerate(pairwise(rows.offsets.tolist())):
        if end > start:
            yield adapter, slice(start, end)
