"""Retrieval by behaviour: the adapters whose deltas point the same way (seed 001, phase 5 B2)."""

from __future__ import annotations

import torch
from torch import Tensor

from llgbm.deltas.by_layer import directions
from llgbm.deltas.errors import CacheError


def retrieve(query: Tensor, deltas: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return the k nearest deltas by cosine.

    Args:
        query: a delta [...], or q of them [q, ...].
        deltas: [N, ...]; the layers of [N, probes, layers, hidden] weigh alike.
        k: at most N are returned.

    Returns:
        indices [k] int64 and cosines [k] float32, best first; [q, k] for q queries.

    Raises:
        ValueError: no deltas, or shapes that differ.
        CacheError: NaN or Inf.
    """
    if deltas.dim() < 2 or not len(deltas):
        raise ValueError(f"deltas: expected [N, ...] with N > 0, got {tuple(deltas.shape)}")
    single = query.dim() == deltas.dim() - 1
    queries = query[None] if single else query
    if queries.shape[1:] != deltas.shape[1:]:
        raise ValueError(
            f"query: expected shape {tuple(deltas.shape[1:])}, got {tuple(queries.shape[1:])}"
        )
    for name, rows in (("query", queries), ("deltas", deltas)):
        finite = rows.flatten(1).isfinite().all(1)
        if not finite.all():
            row = int(finite.int().argmin())
            raise CacheError(f"{name}: row {row}: expected finite values, got NaN or Inf")
    cosines = directions(queries.float()) @ directions(deltas.float()).mT
    best = torch.topk(cosines, min(k, len(deltas)), dim=1)
    if single:
        return best.indices[0], best.values[0]
    return best.indices, best.values
