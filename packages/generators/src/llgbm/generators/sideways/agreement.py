"""How well predicted metrics agree with measured ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import ConstantInputWarning, spearmanr
from torch import Tensor


@dataclass(frozen=True)
class Agreement:
    """Of one metric over n checkpoints.

    Attributes:
        r2: share of the variance that is explained; below 0 the mean of those very checkpoints
            does better.
        r2_bent: the same of metrics bent and standardised, as they are fitted: orders of magnitude
            count, where `r2` of a metric that runs over several is decided by its largest values.
        rank_correlation: Spearman's; None where either side is constant.
        error: mean absolute.
    """

    r2: float
    r2_bent: float
    rank_correlation: float | None
    error: float


def agreements(
    predicted: Tensor, measured: Tensor, names: Sequence[str], scale: Callable[[Tensor], Tensor]
) -> dict[str, Agreement]:
    """Agreement of every metric.

    Args:
        predicted: [n, m].
        measured: [n, m].
        names: m of them.
        scale: bends and standardises.
    """
    found = {}
    r2, r2_bent = _r2(predicted, measured), _r2(scale(predicted), scale(measured))
    for place, name in enumerate(names):
        got, truth = predicted[:, place].double(), measured[:, place].double()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConstantInputWarning)
            ranks = float(spearmanr(got.numpy(), truth.numpy())[0]) if len(truth) > 1 else np.nan
        found[name] = Agreement(
            r2[place],
            r2_bent[place],
            None if np.isnan(ranks) else ranks,
            float((got - truth).abs().mean()),
        )
    return found


def _r2(predicted: Tensor, measured: Tensor) -> list[float]:
    """Of every column; 0 where nothing varies."""
    got, truth = predicted.double(), measured.double()
    spread = (truth - truth.mean(0)).square().sum(0)
    missed = (got - truth).square().sum(0)
    return torch.where(spread > 0, 1 - missed / spread, 0.0).tolist()
