"""Reading a finished cache without its base model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from llgbm.deltas.cache import MANIFEST, CacheKey, DeltaCache
from llgbm.deltas.errors import CacheError
from llgbm.deltas.json_files import read_json
from llgbm.deltas.statistics import delta_statistics


def read_cache(folder: Path) -> tuple[list[str], Tensor]:
    """Return ids and deltas [N, ...] of every adapter in a cache.

    Raises:
        CacheError: no cache, a damaged one, or an empty one.
    """
    if not (folder / MANIFEST).exists():
        raise CacheError(f"{folder / MANIFEST}: not found: run `llgbm-deltas compute` first")
    manifest = read_json(folder / MANIFEST, CacheError)
    try:
        fields = {name: str(manifest[name]) for name in CacheKey.__dataclass_fields__}
        prints = {name: entry["fingerprint"] for name, entry in manifest["adapters"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise CacheError(f"{folder / MANIFEST}: expected a delta cache, got {error!r}") from error
    if not prints:
        raise CacheError(f"{folder}: expected at least one delta, got none")
    return sorted(prints), DeltaCache(folder, CacheKey(**fields)).load_all(
        {name: prints[name] for name in sorted(prints)}
    )


def find_delta(ids: Sequence[str], deltas: Tensor, wanted: str) -> Tensor:
    """Return the delta of the adapter with id `wanted`, or in the folder of that name.

    Raises:
        CacheError: not in the cache.
    """
    name = Path(wanted).name
    if name not in ids:
        raise CacheError(f"{wanted}: expected an adapter of the cache ({', '.join(ids)}), got none")
    return deltas[list(ids).index(name)]


def print_statistics(folder: Path, broken: Sequence[str] = ()) -> None:
    """Print norms and outliers of a cache."""
    try:
        ids, deltas = read_cache(folder)
    except CacheError:
        if not broken:
            raise
        ids, deltas = [], torch.empty(0, 1)
    print(delta_statistics(ids, deltas, broken).table())
