"""Correlation of alignment with accuracy: definitions, ties, and intervals over tasks."""

import numpy as np
import pytest
from scipy import stats

from llgbm.generators.evaluation.alignment import Point, correlation, pearson, spearman


def points(slope: float, tasks: int = 6, noise: float = 0.05) -> list[Point]:
    """Five adapters a task whose gain follows their cosine."""
    rng = np.random.default_rng(0)
    return [
        Point(f"t{task}", "generated", cosine, slope * cosine + noise * rng.normal())
        for task in range(tasks)
        for cosine in rng.random(5)
    ]


def test_both_measures_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, 40).astype(float), rng.normal(size=40)  # x has many ties
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y)[0])
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y)[0])


def test_a_clear_relation_is_found_and_none_is_not() -> None:
    found = correlation(points(1.0), pearson)
    assert found.n == 30
    assert 0.9 < found.low <= found.mean <= found.high <= 1
    nothing = correlation(points(0.0), spearman)
    assert nothing.low < 0 < nothing.high


def test_what_has_no_correlation_is_none() -> None:
    assert correlation(points(1.0)[:2], pearson) is None
    assert correlation([Point("t", "random", 0.5, gain) for gain in (0, 1, 2)], pearson) is None


def test_the_seed_decides_the_interval() -> None:
    data = points(0.3)
    assert correlation(data, pearson, 1) == correlation(data, pearson, 1)
    assert correlation(data, pearson, 1) != correlation(data, pearson, 2)
