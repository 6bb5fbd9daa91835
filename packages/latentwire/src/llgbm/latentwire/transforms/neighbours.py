"""Search for the rows of a table that point the way a vector does."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


@torch.no_grad()
def nearest_rows(values: Tensor, table: Tensor, k: int, chunk: int = 8192) -> Tensor:
    """The k rows of greatest cosine, found chunk by chunk over the table.

    Args:
        values: [n, h] float32.
        table: [v, h], any dtype.
        k: rows wanted, at most v.
        chunk: rows compared at a time: memory is n * chunk.

    Returns:
        [n, k] int64, nearest first.
    """
    directions = normalize(values, dim=-1)
    scores = values.new_empty(len(values), 0)
    places = torch.empty(len(values), 0, dtype=torch.long, device=values.device)
    for start in range(0, len(table), chunk):
        rows = normalize(table[start : start + chunk].float(), dim=-1)
        found, where = (directions @ rows.T).topk(min(k, len(rows)), dim=-1)
        scores = torch.cat([scores, found], dim=-1)
        places = torch.cat([places, where + start], dim=-1)
        scores, kept = scores.topk(min(k, scores.shape[-1]), dim=-1)
        places = places.gather(-1, kept)
    return places
