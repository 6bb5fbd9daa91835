"""A cache that counts positions before its own without holding anything of them."""

from __future__ import annotations

from transformers.cache_utils import Cache, DynamicLayer


class CountingLayer(DynamicLayer):
    """Keys and values of what is read, behind `before` positions that are held elsewhere.

    Masks span all positions; `update` returns keys and values of its own alone.
    """

    def __init__(self, before: int) -> None:
        super().__init__()
        self.before = before

    def get_seq_length(self) -> int:
        """Positions before the next token, those elsewhere among them."""
        return self.before + int(super().get_seq_length())


def counting_cache(layers: int, before: int) -> Cache:
    """A fresh cache of so many layers, all of which see every position."""
    return Cache(layers=[CountingLayer(before) for _ in range(layers)])
