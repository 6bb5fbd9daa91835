"""Metrics as numbers that networks like: bent towards a normal distribution, standardised.

A divergence that runs from a thousandth to several nats is predicted by its order of magnitude, and
a ridge beside it is given the same numbers (Yeo and Johnson 2000, the power kept from 0 to 2 so
that every number has an inverse).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.stats import yeojohnson_llf
from torch import Tensor, nn

POWERS, UNITS = np.linspace(0.0, 2.0, 21), (0.05, 0.25, 0.5, 0.75, 1.0)
# Of a metric that never changes, and of rounding beside its size.
SMALLEST = 1e-6
# Powers of e beyond this are no float32.
LARGEST = 80.0


class MetricScale(nn.Module):
    """Bends and standardises m metrics; those of `fit`.

    Args:
        metrics: m.
    """

    unit: Tensor
    power: Tensor
    mean: Tensor
    spread: Tensor
    own_spread: Tensor

    def __init__(self, metrics: int) -> None:
        super().__init__()
        for name, start in (
            ("unit", 1.0),
            ("power", 1.0),
            ("mean", 0.0),
            ("spread", 1.0),
            # Standard deviation in the metric's own units.
            ("own_spread", 1.0),
        ):
            self.register_buffer(name, torch.full((metrics,), start))

    def fit(self, values: Tensor) -> None:
        """Take units, powers and spreads of the training checkpoints' metrics [n, m]."""
        self.own_spread = _spread(values)
        found = [_unit_and_power(column) for column in values.double().T.numpy()]
        self.unit, self.power = torch.tensor(found, dtype=values.dtype).T.contiguous()
        bent = self._bend(values / self.unit)
        self.mean, self.spread = bent.mean(0), _spread(bent)

    def forward(self, values: Tensor) -> Tensor:
        """[..., m] in their own units to standardised ones."""
        return (self._bend(values / self.unit) - self.mean) / self.spread

    def back(self, standardised: Tensor) -> Tensor:
        """Undo it."""
        return self._straighten(standardised * self.spread + self.mean) * self.unit

    def _bend(self, x: Tensor) -> Tensor:
        power = self.power
        up, down = _raise(x.clamp_min(0), power), _raise((-x).clamp_min(0), 2 - power)
        return torch.where(x >= 0, up, -down)

    def _straighten(self, y: Tensor) -> Tensor:
        power = self.power
        up, down = _lower(y.clamp_min(0), power), _lower((-y).clamp_min(0), 2 - power)
        return torch.where(y >= 0, up, -down)


def _raise(x: Tensor, power: Tensor) -> Tensor:
    """((1 + x) ** power - 1) / power, log(1 + x) for a power of 0; x at least 0."""
    whole = power.clamp_min(1e-3)
    return torch.where(power < 1e-3, x.log1p(), ((whole * x.log1p()).exp() - 1) / whole)


def _lower(y: Tensor, power: Tensor) -> Tensor:
    """Undo `_raise`."""
    still, whole = power < 1e-3, power.clamp_min(1e-3)
    # What is not taken must be finite, too: its gradient is multiplied by zero, not left out.
    by_exponential = torch.where(still, y.clamp_max(LARGEST), 0).expm1()
    by_power = ((whole * torch.where(still, 0, y)).log1p() / whole).expm1()
    return torch.where(still, by_exponential, by_power)


def _unit_and_power(column: np.ndarray) -> tuple[float, float]:
    """What makes a column most like a normal distribution; 1 and 1 where it does not vary.

    Units are quantiles of its sizes: below the unit little is bent.
    """
    sizes = np.abs(column)
    if np.ptp(column) <= SMALLEST * sizes.max():
        return 1.0, 1.0
    units = {float(each) for each in np.quantile(sizes, UNITS) if each > SMALLEST * sizes.max()}
    return max(
        ((unit, float(power)) for unit in sorted(units) for power in POWERS),
        key=lambda each: _likelihood(column, *each),
    )


def _likelihood(column: np.ndarray, unit: float, power: float) -> float:
    """Logarithm of the likelihood of a column in units, bent by a power."""
    found = float(yeojohnson_llf(power, column / unit)) - len(column) * np.log(unit)
    return found if np.isfinite(found) else -np.inf


def _spread(values: Tensor) -> Tensor:
    """Standard deviation [m]; 1 where a metric never changes."""
    spread = values.std(0, unbiased=False)
    still = spread <= SMALLEST * values.abs().amax(0)
    return torch.where(still, torch.ones_like(spread), spread)
