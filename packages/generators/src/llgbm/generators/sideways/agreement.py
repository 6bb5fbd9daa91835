"""How well predicted metrics agree with measured ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import ConstantInputWarning, spearmanr
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """Of one metric over n checkpoints.

    Attributes:
        r2: share of the variance that is explained; below 0 the mean of those very checkpoints
            does better.
        rank_correlation: Spearman's; None where either side is constant.
        error: mean absolute.
    """

    r2: float
    rank_correlation: float | None
    error: float


def agreements(predicted: Tensor, measured: Tensor, names: Sequence[str]) -> dict[str, Agreement]:
    """Agreement of every metric.

    Args:
        predicted: [n, m].
        measured: [n, m].
        names: m of them.
    """
    found = {}
    for place, name in enumerate(names):
        got, truth = predicted[:, place].double(), measured[:, place].double()
        spread = float((truth - truth.mean()).square().sum())
        missed = float((got - truth).square().sum())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)
            ranks = float(spearmanr(got.numpy(), truth.numpy())[0]) if len(truth) > 1 else np.nan
        found[name] = Agreement(
            1 - missed / spread if spread else 0.0,
            None if np.isnan(ranks) else ranks,
            float((got - truth).abs().mean()),
        )
    return found
