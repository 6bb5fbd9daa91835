"""Latents along the front that a model predicts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.anchored import Anchored, Mixture, concatenate
from llgbm.generators.sideways.explore.front import reference_point, spread_over_front
from llgbm.generators.sideways.explore.search import cautious, climb, scalarised
from llgbm.generators.sideways.model.files import SidewaysModel

Latents = Literal["both", "sampled", "optimised"]
# Checkpoints of the training front that are climbed from, and steps.
CLIMBS, CLIMB_STEPS = 32, 40
# Neighbours of one anchor.
MOST_MIXED = 3
# From search to search of candidates that are measured.
NEARER, LEAST_NEARNESS = 10, 0.03
# Keeps the weight of a metric finite where a checkpoint is the worst in it.
LEAST = 0.05


@dataclass(frozen=True)
class FrontSearch:
    """How a front is looked for.

    Args:
        proposals: at most so many.
        samples: latents drawn, each a change of the training checkpoint that is nearest.
        latents: drawn ones, ones that gradients climb to from the training front and from means of
            neighbours on it, or both.
        caution: standard errors that are taken off a prediction before it counts. At 1, hardly
            anything moves where predictions are poor.
        nearness: how much a latent loses for being far from the checkpoints that it changes.
        tried: searches, where candidates are measured: one as above, one with a standard error of
            caution more, and any more with ten times the nearness of the one before. Those
            candidates are proposed that dominate most as measured.
        seed: of the draws.
    """

    proposals: int = 12
    samples: int = 2048
    latents: Latents = "both"
    caution: float = 0.0
    nearness: float = 0.3
    tried: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, proposals=self.proposals, samples=self.samples, tried=self.tried)
        require_at_least(0, caution=self.caution, nearness=self.nearness)
        require_seed(self.seed)


def find_candidates(model: SidewaysModel, aims: Aims, search: FrontSearch) -> list[Anchored]:
    """What there is to measure: the front as searched for, a more cautious one, nearer ones."""
    searches = [search, replace(search, caution=search.caution + 1)]
    nearness = search.nearness
    while len(searches) < search.tried:
        nearness = NEARER * max(nearness, LEAST_NEARNESS)
        searches.append(replace(search, nearness=nearness))
    return [find_front(model, aims, each) for each in searches[: search.tried]]


def find_front(model: SidewaysModel, aims: Aims, search: FrontSearch) -> Anchored:
    """Latents that together are predicted to dominate most, cautiously."""
    candidates = []
    if search.latents != "optimised":
        candidates.append(_drawn(model, search))
    if search.latents != "sampled":
        candidates.append(_climbed(model, aims, search))
    latents = concatenate(candidates)
    with torch.no_grad():
        far = search.nearness * latents.distance()[:, None]
        units = model.vae.metric_scale.own_spread[list(aims.places)]
        points = cautious(model, aims, latents, search.caution) - far * units
    reference = reference_point(aims.pick(model.train_table.metrics))
    return latents.select(spread_over_front(points, reference, search.proposals))


def front_and_between(
    model: SidewaysModel, points: Tensor, rows: list[int]
) -> tuple[list[Mixture], Tensor]:
    """Checkpoints of a front, then means of two and of three neighbours on it, with their points.

    Neighbours are those in the order of the first metric.

    Args:
        model: whose training checkpoints they are.
        points: [n, a], of all training checkpoints.
        rows: of the front's among them.
    """
    places = model.split.places(model.collection, "train")
    ordered = sorted(rows, key=lambda row: float(points[row, 0]))
    groups = [
        ordered[start : start + size]
        for size in range(1, 1 + MOST_MIXED)
        for start in range(len(ordered) + 1 - size)
    ]
    mixtures = [tuple((places[row], 1 / len(rows)) for row in rows) for rows in groups]
    return mixtures, torch.stack([points[rows].mean(0) for rows in groups])


def _drawn(model: SidewaysModel, search: FrontSearch) -> Anchored:
    generator = torch.Generator().manual_seed(search.seed)
    every = Anchored.training(model)
    z = every.space.sample(search.samples, generator)
    return every.select(every.space.nearest(z).tolist()).moved(z)


def _climbed(model: SidewaysModel, aims: Aims, search: FrontSearch) -> Anchored:
    """Each towards more of everything, in the proportion that its anchor has."""
    points = aims.pick(model.train_table.metrics)
    front = spread_over_front(points, reference_point(points), CLIMBS)
    mixtures, reached = front_and_between(model, points, front)
    weights = 1 / (aims.achievement(model, reached) + LEAST)
    weights = weights / weights.sum(-1, keepdim=True)
    objective = scalarised(model, aims, weights, search.caution, search.nearness)
    return climb(Anchored.at(model, mixtures), objective, CLIMB_STEPS)
