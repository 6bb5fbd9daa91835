"""`llgbm-deltas stats`: norms, outliers and silent adapters of a cache, and its clusters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llgbm.deltas.cluster_plot import check_picture, save_delta_map
from llgbm.deltas.clusters import delta_map, delta_silhouette
from llgbm.deltas.commands.cached import read_cache
from llgbm.deltas.errors import require_seed
from llgbm.deltas.statistics import delta_statistics
from llgbm.deltas.task_labels import tasks_of


@dataclass(frozen=True)
class StatsConfig:
    """Print the statistics of a delta cache.

    Where ids name tasks (TASK_007, or TASK__NAME for folders TASK/NAME), the silhouette of the
    deltas by task is among them, on distances clip(1 - cosine, 0, 1).

    Args:
        cache: its folder.
        plot: file for a t-SNE map of the deltas: .png, .svg or .pdf.
        seed: of the map.
    """

    cache: Annotated[Path, tyro.conf.Positional]
    plot: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)
        if self.plot is not None:
            check_picture(self.plot)


def stats(config: StatsConfig) -> None:
    """Print the table and draw the map."""
    ids, deltas = read_cache(config.cache)
    print(delta_statistics(ids, deltas).table())
    tasks = tasks_of(ids)
    different = len(set(tasks or ()))
    if tasks and 2 <= different < len(tasks):
        print(f"silhouette by task  {delta_silhouette(deltas, tasks):.4f}  ({different} tasks)")
    else:
        print("silhouette by task  -  (ids do not name two tasks, one of them twice)")
    if config.plot is not None:
        save_delta_map(config.plot, delta_map(deltas, config.seed), tasks or ids)
        print(f"{config.plot}: t-SNE of {len(ids)} deltas")
