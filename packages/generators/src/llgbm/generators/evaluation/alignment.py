"""Does an adapter that behaves like the teacher also score like it?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llgbm.deltas.bootstrap import RESAMPLES, Interval

FEWEST = 3
Correlation = Callable[[NDArray[np.float64], NDArray[np.float64]], float]


@dataclass(frozen=True)
class Point:
    """One adapter on one task.

    Attributes:
        task: its name.
        arm: one that the adapter stands in.
        cosine: of its delta with the task's teachers', on held-out probes.
        gain: its accuracy minus the base's.
    """

    task: str
    arm: str
    cosine: float
    gain: float


def pearson(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Linear correlation; NaN where x or y is constant."""
    x, y = x - x.mean(), y - y.mean()
    norms = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norms if norms > 1e-12 else float("nan")


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Correlation of ranks, ties shared."""
    return pearson(_ranks(x), _ranks(y))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each value; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[place]


def correlation(points: Sequence[Point], measure: Correlation, seed: int = 0) -> Interval | None:
    """Correlation of alignment and gain with a bootstrap interval over tasks.

    Whole tasks are drawn with their points: points of one task share its examples and its base.

    Args:
        points: of any tasks.
        measure: `pearson` or `spearman`.
        seed: of the resampling.

    Returns:
        n is the number of points; None with fewer than three, or where it is not defined.
    """
    tasks = list(dict.fromkeys(point.task for point in points))
    x = np.array([point.cosine for point in points])
    y = np.array([point.gain for point in points])
    if len(points) < FEWEST or np.isnan(value := measure(x, y)):
        return None
    rows = [np.flatnonzero([point.task == task for point in points]) for task in tasks]
    rng = np.random.default_rng(seed)
    found = []
    for drawn in rng.integers(0, len(tasks), size=(RESAMPLES, len(tasks))):
        chosen = np.concatenate([rows[task] for task in drawn])
        found.append(measure(x[chosen], y[chosen]))
    # A draw of one task over and over may have no correlation: it says nothing.
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(float(value), float(low), float(high), len(points))
