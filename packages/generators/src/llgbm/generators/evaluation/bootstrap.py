"""Bootstrap intervals, over examples within tasks."""

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
    """Mean over tasks of the mean over examples.

    Every task counts alike. Examples are resampled within their task: the interval speaks of
    other examples of these tasks, not of other tasks.

    Args:
        outcomes: task -> one number an example (a share where several adapters were scored).
        seed: of the resampling.

    Raises:
        ValueError: no tasks, or a task without examples.
    """
    if not outcomes or not all(len(values) for values in outcomes.values()):
        raise ValueError("interval: expected examples in every task, got none")
    rng = np.random.default_rng(seed)
    means = np.zeros(RESAMPLES)
    for values in outcomes.values():
        drawn = rng.integers(0, len(values), size=(RESAMPLES, len(values)))
        means += np.asarray(values, dtype=np.float64)[drawn].mean(1)
    mean = float(np.mean([np.mean(values) for values in outcomes.values()]))
    # Divided last: shares of 1/9 added up nine times are more than 1.
    low, high = np.quantile(means / len(outcomes), [0.025, 0.975])
    return Interval(mean, float(low), float(high), sum(map(len, outcomes.values())))


def paired_difference(first: Outcomes, second: Outcomes, seed: int = 0) -> Interval:
    """Interval of first - second over the same examples.

    Raises:
        ValueError: other tasks or other numbers of examples.
    """
    if {t: len(v) for t, v in first.items()} != {t: len(v) for t, v in second.items()}:
        raise ValueError("paired_difference: expected the same examples in both")
    return interval({task: first[task] - second[task] for task in first}, seed)
