"""Latents that are predicted to be good: drawn, climbed to by gradients, or by CMA-ES."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from llgbm.generators.extras import cma_es
from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.anchored import Anchored
from llgbm.generators.sideways.model.files import SidewaysModel

# Of one standard deviation of the training latents.
STEP_SIZE, CMA_SIGMA = 0.05, 0.5
# How much the sum of all metrics counts beside the one that is worst off.
SUM_SHARE = 0.1
Objective = Callable[[Anchored], Tensor]


def cautious(model: SidewaysModel, aims: Aims, latents: Anchored, caution: float) -> Tensor:
    """Predicted metrics [n, a], more is better, less `caution` standard errors."""
    mean, error = latents.predict(model, bounded=False)
    return aims.pick(mean) - caution * error[..., list(aims.places)]


def scalarised(
    model: SidewaysModel,
    aims: Aims,
    weights: Tensor,
    caution: float,
    nearness: float,
) -> Objective:
    """What n latents are worth for weights [n, a]: achievements, less distance to their anchors.

    The worst weighted metric counts (an augmented Chebyshev scalarisation), so that hollow parts
    of a front are found, too.
    """

    def value(latents: Anchored) -> Tensor:
        reached = aims.achievement(model, cautious(model, aims, latents, caution))
        weighed = weights * reached
        worth = weighed.amin(-1) + SUM_SHARE * weighed.sum(-1)
        return worth - nearness * latents.distance()

    return value


def to_target(
    model: SidewaysModel,
    places: list[int],
    target: Tensor,
    caution: float,
    nearness: float,
) -> Objective:
    """What latents are worth where metrics at `places` are to be `target` [a] (seed 003, 3)."""
    spread = model.vae.metric_scale.own_spread[places]

    def value(latents: Anchored) -> Tensor:
        mean, error = latents.predict(model, bounded=False)
        off = (mean[..., places] - target) / spread
        unsure = caution * (error[..., places] / spread).square()
        far = nearness * latents.distance()
        return -(off.square() + unsure).sum(-1) - far

    return value


@torch.enable_grad()
def climb(start: Anchored, objective: Objective, steps: int) -> Anchored:
    """Follow the gradient from n latents, each on its own (Adam in standard units)."""
    space = start.space
    inner = space.to_standard(start.z).detach().requires_grad_()
    optimizer = torch.optim.Adam([inner], lr=STEP_SIZE)
    for _ in range(steps):
        loss = -objective(start.moved(space.from_standard(inner))).sum()
        (inner.grad,) = torch.autograd.grad(loss, [inner])
        optimizer.step()
    return start.moved(space.from_standard(inner).detach())


def evolve(start: Anchored, objective: Objective, generations: int, seed: int) -> Anchored:
    """Best latent that CMA-ES finds from one start."""
    cma = cma_es("sideways").CMA
    space = start.space
    inner = space.to_standard(start.z)[0].double().numpy()
    optimizer = cma(mean=inner, sigma=CMA_SIGMA, seed=seed)
    many = start.select([0] * optimizer.population_size)
    best, worth = start, float(objective(start)[0])
    for _ in range(generations):
        asked = [optimizer.ask() for _ in range(optimizer.population_size)]
        found = many.moved(space.from_standard(torch.tensor(np.stack(asked), dtype=start.z.dtype)))
        with torch.no_grad():
            values = objective(found)
        optimizer.tell([(x, -v) for x, v in zip(asked, values.tolist(), strict=True)])
        top = int(values.argmax())
        if float(values[top]) > worth:
            best, worth = found.select([top]), float(values[top])
    return best
