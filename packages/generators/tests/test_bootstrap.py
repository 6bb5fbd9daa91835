"""Intervals stay where accuracies can be, and cover as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llgbm.generators.evaluation.bootstrap import interval, paired_difference


@given(st.integers(1, 40), st.integers(1, 5))
def test_all_right_is_exactly_one(tasks: int, examples: int) -> None:
    # 9, 11 or 21 tasks once gave more than 1 by rounding, which results.json refuses.
    found = interval({str(task): np.ones(examples) for task in range(tasks)})
    assert (found.mean, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.n == tasks * examples


def test_95_of_100_intervals_hold_the_true_mean() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        outcomes = {t: (rng.random(60) < p).astype(float) for t, p in (("a", 0.3), ("b", 0.8))}
        found = interval(outcomes, seed)
        held += found.low <= 0.55 <= found.high
    # Binomial, 200 draws at 0.95: three standard deviations are 0.046.
    assert held / 200 == pytest.approx(0.95, abs=0.05)


def test_the_seed_decides_the_interval() -> None:
    outcomes = {"t": (np.arange(50) % 3 == 0).astype(float)}
    assert interval(outcomes, 1) == interval(outcomes, 1)
    assert interval(outcomes, 1) != interval(outcomes, 2)


def test_a_difference_with_itself_is_nothing() -> None:
    outcomes = {"t": (np.arange(50) % 3 == 0).astype(float)}
    found = paired_difference(outcomes, outcomes)
    assert (found.mean, found.low, found.high, found.n) == (0.0, 0.0, 0.0, 50)
