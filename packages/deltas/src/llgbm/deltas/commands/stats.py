"""`llgbm-deltas stats`: norms, outliers and silent adapters of a cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llgbm.deltas.commands.cached import print_statistics


@dataclass(frozen=True)
class StatsConfig:
    """Print the statistics of a delta cache.

    Args:
        cache: its folder.
    """

    cache: Annotated[Path, tyro.conf.Positional]


def stats(config: StatsConfig) -> None:
    """Print the table."""
    print_statistics(config.cache)
