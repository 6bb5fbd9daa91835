"""Latents along the front that a model predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.front import reference_point, spread_over_front
from llgbm.generators.sideways.explore.latent_space import LatentSpace
from llgbm.generators.sideways.explore.search import cautious, climb, scalarised
from llgbm.generators.sideways.model.files import SidewaysModel

Latents = Literal["both", "sampled", "optimised"]
CLIMBS, CLIMB_STEPS = 64, 150


@dataclass(frozen=True)
class FrontSearch:
    """How a front is looked for.

    Args:
        proposals: at most so many.
        samples: latents drawn.
        latents: drawn ones, ones that gradients climbed to, or both.
        caution: standard errors that are taken off a prediction before it counts.
        nearness: how much a latent loses for being far from the training checkpoints'.
        seed: of the draws.
    """

    proposals: int = 12
    samples: int = 2048
    latents: Latents = "both"
    caution: float = 1.0
    nearness: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, proposals=self.proposals, samples=self.samples)
        require_at_least(0, caution=self.caution, nearness=self.nearness)
        require_seed(self.seed)


def find_front(model: SidewaysModel, aims: Aims, search: FrontSearch) -> Tensor:
    """Latents [n, z] that together are predicted to dominate most, cautiously."""
    space = LatentSpace.of(model)
    generator = torch.Generator().manual_seed(search.seed)
    drawn = space.sample(search.samples, generator)
    candidates = [drawn] if search.latents != "optimised" else []
    if search.latents != "sampled":
        weights = torch.rand(CLIMBS, len(aims.names), generator=generator).clamp_min(1e-3)
        weights = weights / weights.sum(-1, keepdim=True)
        objective = scalarised(model, space, aims, weights, search.caution, search.nearness)
        starts = space.centres[torch.randint(len(space.centres), (CLIMBS,), generator=generator)]
        candidates.append(climb(space, starts, objective, CLIMB_STEPS))
    z = torch.cat(candidates)
    with torch.no_grad():
        points = cautious(model, aims, z, search.caution)
        # Drawn latents are paid no heed to how strange they are until here.
        points = (
            points
            - search.nearness
            * (space.strangeness(z)[:, None] - 0.5).clamp_min(0)
            * (model.vae.metric_scale.own_spread[list(aims.places)])
        )
    reference = reference_point(aims.pick(model.train_table.metrics))
    chosen = spread_over_front(points, reference, search.proposals)
    return z[chosen]
