"""Latents that are predicted to be good: drawn, climbed to by gradients, or by CMA-ES."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llgbm.deltas.errors import SettingError
from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.latent_space import LatentSpace
from llgbm.generators.sideways.model.files import SidewaysModel

# Of one standard deviation of the training latents.
STEP_SIZE, CMA_SIGMA = 0.05, 0.5
# How much the sum of all metrics counts beside the one that is worst off.
SUM_SHARE = 0.1
Objective = Callable[[Tensor], Tensor]


def cautious(model: SidewaysModel, aims: Aims, z: Tensor, caution: float) -> Tensor:
    """Predicted metrics [n, a], more is better, less `caution` standard errors."""
    mean, error = model.vae.predict(z)
    return aims.pick(mean) - caution * error[..., list(aims.places)]


def scalarised(
    model: SidewaysModel,
    space: LatentSpace,
    aims: Aims,
    weights: Tensor,
    caution: float,
    nearness: float,
) -> Objective:
    """What latents [n, z] are worth for weights [n, a]: achievements, less strangeness.

    The worst weighted metric counts (an augmented Chebyshev scalarisation), so that hollow parts
    of a front are found, too.
    """
    spread = aims.pick(model.vae.metric_scale.own_spread).abs()
    lowest = aims.pick(model.train_table.metrics).amin(0)

    def value(z: Tensor) -> Tensor:
        reached = (cautious(model, aims, z, caution) - lowest) / spread
        weighed = weights * reached
        return weighed.amin(-1) + SUM_SHARE * weighed.sum(-1) - nearness * space.strangeness(z)

    return value


def to_target(
    model: SidewaysModel,
    space: LatentSpace,
    places: list[int],
    target: Tensor,
    caution: float,
    nearness: float,
) -> Objective:
    """What latents are worth where metrics at `places` are to be `target` [a] (seed 003, 3)."""
    spread = model.vae.metric_scale.own_spread[places]

    def value(z: Tensor) -> Tensor:
        mean, error = model.vae.predict(z)
        off = (mean[..., places] - target) / spread
        unsure = caution * (error[..., places] / spread).square()
        return -(off.square() + unsure).sum(-1) - nearness * space.strangeness(z)

    return value


@torch.enable_grad()
def climb(space: LatentSpace, start: Tensor, objective: Objective, steps: int) -> Tensor:
    """Follow the gradient from latents [n, z], each on its own (Adam in standard units)."""
    inner = space.to_standard(start).detach().requires_grad_()
    optimizer = torch.optim.Adam([inner], lr=STEP_SIZE)
    for _ in range(steps):
        loss = -objective(space.from_standard(inner)).sum()
        (inner.grad,) = torch.autograd.grad(loss, [inner])
        optimizer.step()
    return space.from_standard(inner).detach()


def evolve(
    space: LatentSpace, start: Tensor, objective: Objective, generations: int, seed: int
) -> Tensor:
    """Best latent [1, z] that CMA-ES finds from one start [1, z]."""
    cma = _cma()
    inner = space.to_standard(start)[0].double().numpy()
    optimizer = cma(mean=inner, sigma=CMA_SIGMA, seed=seed)
    best, worth = start, float(objective(start)[0])
    for _ in range(generations):
        asked = [optimizer.ask() for _ in range(optimizer.population_size)]
        z = space.from_standard(torch.tensor(np.stack(asked), dtype=start.dtype))
        with torch.no_grad():
            values = objective(z)
        optimizer.tell([(x, -v) for x, v in zip(asked, values.tolist(), strict=True)])
        top = int(values.argmax())
        if float(values[top]) > worth:
            best, worth = z[top : top + 1], float(values[top])
    return best


def _cma() -> Any:
    """Import cmaes.

    Raises:
        SettingError: it is not installed.
    """
    try:
        from cmaes import CMA
    except ImportError as error:
        raise SettingError(
            "CMA-ES needs cmaes: pip install 'llgbm-generators[sideways]'"
        ) from error
    return CMA
