"""`llgbm-deltas retrieve`: the adapters that behave most like one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llgbm.deltas.commands.cached import find_delta, read_cache
from llgbm.deltas.errors import require_at_least
from llgbm.deltas.retrieval import retrieve as nearest


@dataclass(frozen=True)
class RetrieveConfig:
    """List the nearest adapters by cosine of their deltas.

    Args:
        cache: folder of the delta cache.
        like: id of the adapter that is asked about.
        k: how many to list, itself not counted.
    """

    cache: Annotated[Path, tyro.conf.Positional]
    like: Annotated[str, tyro.conf.Positional]
    k: int = 5

    def __post_init__(self) -> None:
        require_at_least(1, k=self.k)


def retrieve(config: RetrieveConfig) -> None:
    """Print ids and cosines, nearest first."""
    ids, deltas = read_cache(config.cache)
    query = find_delta(ids, deltas, config.like)
    indices, cosines = nearest(query, deltas, config.k + 1)
    rows = zip(indices.tolist(), cosines.tolist(), strict=True)
    others = [(ids[i], cosine) for i, cosine in rows if ids[i] != Path(config.like).name]
    for name, cosine in others[: config.k]:
        print(f"{cosine:7.4f}  {name}")
