"""Vectors as the heads of an attention."""

from __future__ import annotations

from torch import Tensor


def split_heads(values: Tensor, heads: int) -> Tensor:
    """[..., m, d] as [..., heads, m, d / heads]."""
    return values.unflatten(-1, (heads, -1)).transpose(-3, -2)
