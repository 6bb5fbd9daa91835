"""Printing what a finished cache holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from llgbm.deltas.cache_contents import read_contents
from llgbm.deltas.errors import CacheError
from llgbm.deltas.statistics import delta_statistics


def read_cache(folder: Path) -> tuple[list[str], Tensor]:
    """Return ids and deltas [N, ...] of everything in a cache.

    Raises:
        CacheError: no cache, a damaged one, or an empty one.
    """
    contents = read_contents(folder)
    if not contents.fingerprints:
        raise CacheError(f"{folder}: expected at least one delta, got none")
    return list(contents.fingerprints), contents.deltas()


def print_statistics(folder: Path, broken: Sequence[str] = ()) -> None:
    """Print norms and outliers of a cache."""
    try:
        ids, deltas = read_cache(folder)
    except CacheError:
        if not broken:
            raise
        ids, deltas = [], torch.empty(0, 1)
    print(delta_statistics(ids, deltas, broken).table())
