"""Bootstrap intervals, over examples within tasks and over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
Outcomes = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% percentile interval and the number of examples behind it."""

    mean: float
    low: float
    high: float
    n: int


def interval(outcomes: Outcomes, seed: int = 0) -> Interval:
    """Mean over tasks of the mean over seeds and examples.

    Every task counts alike. Examples are resampled within their task, and seeds over all tasks
    together, since a seed is one generator: the interval speaks of other examples of these
    tasks and of other seeds, not of other tasks.

    Args:
        outcomes: task -> one number an example, [e] or [seeds, e] (a share where several
            adapters were scored); the same number of seeds in every task.
        seed: of the resampling.

    Raises:
        ValueError: no tasks, a task without examples, or numbers of seeds that differ.
    """
    tables = {t: np.atleast_2d(np.asarray(v, dtype=np.float64)) for t, v in outcomes.items()}
    if not tables or not all(table.size for table in tables.values()):
        raise ValueError("interval: expected examples in every task, got none")
    counts = {len(table) for table in tables.values()}
    if len(counts) > 1:
        raise ValueError(f"interval: expected as many seeds in every task, got {sorted(counts)}")
    seeds = counts.pop()
    rng = np.random.default_rng(seed)
    # Only drawn where there is a choice: one seed leaves the stream of examples as it is.
    rows = rng.integers(0, seeds, size=(RESAMPLES, seeds)) if seeds > 1 else None
    means = np.zeros(RESAMPLES)
    for table in tables.values():
        drawn = rng.integers(0, table.shape[1], size=(RESAMPLES, table.shape[1]))
        if rows is None:
            means += table[0][drawn].mean(1)
        else:
            # One draw of examples serves every seed, as one test set does.
            by_seed = np.stack([row[drawn].mean(1) for row in table], axis=1)
            means += np.take_along_axis(by_seed, rows, axis=1).mean(1)
    mean = float(np.mean([table.mean() for table in tables.values()]))
    # Divided last: shares of 1/9 added up nine times are more than 1.
    low, high = np.quantile(means / len(tables), [0.025, 0.975])
    n = sum(table.shape[1] for table in tables.values())
    return Interval(mean, float(low), float(high), n)


def paired_difference(first: Outcomes, second: Outcomes, seed: int = 0) -> Interval:
    """Interval of first - second over the same examples, and over the same seeds.

    An arm without seeds is compared with every seed of the other.

    Raises:
        ValueError: other tasks, other numbers of examples, or other numbers of seeds.
    """
    shapes = [{t: np.atleast_2d(v).shape for t, v in found.items()} for found in (first, second)]
    examples = [{t: shape[1] for t, shape in found.items()} for found in shapes]
    if examples[0] != examples[1]:
        raise ValueError("paired_difference: expected the same examples in both")
    seeds = {shape[0] for found in shapes for shape in found.values()} - {1}
    if len(seeds) > 1:
        raise ValueError(f"paired_difference: expected the same seeds in both, got {seeds}")
    return interval(
        {task: np.atleast_2d(first[task]) - np.atleast_2d(second[task]) for task in first}, seed
    )


def over_tasks(values: Mapping[str, float], seed: int = 0) -> Interval:
    """Mean of one number a task; tasks are resampled: the interval speaks of other tasks.

    Raises:
        ValueError: no tasks.
    """
    return interval({"tasks": np.array(list(values.values()))}, seed)
