"""Everything that a finished cache holds."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from llgbm.deltas.cache_contents import read_contents
from llgbm.deltas.errors import CacheError


def read_cache(folder: Path) -> tuple[list[str], Tensor]:
    """Return ids and deltas [N, ...] of everything in a cache.

    Raises:
        CacheError: no cache, a damaged one, or an empty one.
    """
    contents = read_contents(folder)
    if not contents.fingerprints:
        raise CacheError(f"{folder}: expected at least one delta, got none")
    return list(contents.fingerprints), contents.deltas()
