"""Intervals over examples and seeds, and differences between rows paired by example."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llgbm.deltas.bootstrap import Interval, interval, paired_difference
from llgbm.latentwire.evaluation.answers import Answer

METRICS = ("em", "f1", "nll", "first_at_1", "first_at_5")


def outcomes(
    tables: Sequence[Sequence[Answer]], row: str, metric: str = "f1"
) -> NDArray[np.float64]:
    """One number an example, [seeds, e]; NLL is a token's.

    Args:
        tables: the answers of one evaluation a seed, of the same examples in the same order.
        row: of the tables.
        metric: one of METRICS.

    Raises:
        ValueError: another metric, no such row, or other examples.
    """
    if metric not in METRICS:
        raise ValueError(f"metric: expected one of {METRICS}, got {metric!r}")
    chosen = [[answer for answer in table if answer.row == row] for table in tables]
    if not chosen or not all(chosen):
        raise ValueError(f"row: expected one that every table has, got {row!r}")
    asked = [[(each.title, each.question, each.gold) for each in table] for table in chosen]
    if any(each != asked[0] for each in asked):
        raise ValueError("tables: expected the same examples in the same order, got others")
    return np.array([[_value(answer, metric) for answer in table] for table in chosen])


def row_interval(
    tables: Sequence[Sequence[Answer]], row: str, metric: str = "f1", seed: int = 0
) -> Interval:
    """Mean of a row with its 95% interval over examples, and over seeds where there are some."""
    return interval({"examples": outcomes(tables, row, metric)}, seed)


def row_difference(
    tables: Sequence[Sequence[Answer]], row: str, against: str, metric: str = "f1", seed: int = 0
) -> Interval:
    """95% interval of one row minus another, paired by example and by seed."""
    first = {"examples": outcomes(tables, row, metric)}
    return paired_difference(first, {"examples": outcomes(tables, against, metric)}, seed)


def _value(answer: Answer, metric: str) -> float:
    if metric == "nll":
        return answer.nll / answer.tokens
    return float(getattr(answer, metric))
