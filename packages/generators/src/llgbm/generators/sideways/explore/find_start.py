"""Weights that are predicted to have wanted metrics, and what else one could start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.generators.sideways.explore.anchored import Anchored, Blocks, Mixture, mixed
from llgbm.generators.sideways.explore.latent_space import LatentSpace
from llgbm.generators.sideways.explore.search import climb, evolve, to_target
from llgbm.generators.sideways.model.files import SidewaysModel

Method = Literal["gradient", "cma"]
GRADIENT_STEPS, GENERATIONS = 200, 40
# Checkpoints nearest to the target; searches start from them and from the mean of every two.
NEAREST = 4


@dataclass(frozen=True)
class InitSearch:
    """How a start is looked for.

    Args:
        method: gradients from several latents, or CMA-ES.
        caution: how much a latent loses for each squared standard error, in units of a metric's
            spread.
        nearness: how much it loses for being far from the checkpoints that it changes.
        seed: of CMA-ES.
    """

    method: Method = "gradient"
    caution: float = 0.5
    nearness: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(0, caution=self.caution, nearness=self.nearness)
        require_seed(self.seed)


def find_start(model: SidewaysModel, target: Mapping[str, float], search: InitSearch) -> Anchored:
    """The latent that is predicted to come nearest to a target, where it can be trusted."""
    places = [model.metrics.index(name) for name in target]
    wanted = torch.tensor(list(target.values()))
    objective = to_target(model, places, wanted, search.caution, search.nearness)
    starts = Anchored.at(model, _starts(nearest_places(model, target)[:NEAREST]))
    with torch.no_grad():
        best = int(objective(starts).argmax())
    if search.method == "cma":
        return evolve(starts.select([best]), objective, GENERATIONS, search.seed)
    ends = climb(starts, objective, GRADIENT_STEPS)
    with torch.no_grad():
        return ends.select([int(objective(ends).argmax())])


def nearest_places(
    model: SidewaysModel, target: Mapping[str, float], short_only: bool = False
) -> list[int]:
    """Places of the training checkpoints in the collection, those nearest to a target first.

    Args:
        model: whose training checkpoints they are.
        target: wanted metrics.
        short_only: what is more than wanted does not count.
    """
    table = model.train_table.metrics
    columns = [model.metrics.index(name) for name in target]
    off: Tensor = torch.tensor(list(target.values())) - table[:, columns]
    if short_only:
        off = off.clamp_min(0)
    spread = model.vae.metric_scale.own_spread[columns]
    order = (off / spread).square().sum(1).argsort(stable=True).tolist()
    places = model.split.places(model.collection, "train")
    return [places[row] for row in order]


def start_baselines(
    model: SidewaysModel, target: Mapping[str, float], seed: int
) -> dict[str, Blocks]:
    """What could be started from without a search, by name; [1, *shape] each."""
    nearest = nearest_places(model, target)
    last = {rows[-1] for run, rows in model.collection.runs.items() if run in model.split.train}
    best_run = next(place for place in nearest if place in last)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        drawn = model.weights(LatentSpace.of(model).sample(1, generator))
    mixtures: dict[str, list[int]] = {
        "nearest checkpoint": nearest[:1],
        "weight interpolation": nearest[:2],
        "model soup": nearest[:NEAREST],
        "best run": [best_run],
    }
    found = {name: _mean(model, places) for name, places in mixtures.items()}
    return {**found, "random latent": drawn}


def _mean(model: SidewaysModel, places: list[int]) -> Blocks:
    blocks = mixed(model, tuple((place, 1 / len(places)) for place in places))
    return {name: value[None] for name, value in blocks.items()}


def _starts(places: list[int]) -> list[Mixture]:
    pairs = combinations(places, 2)
    return [((place, 1.0),) for place in places] + [((a, 0.5), (b, 0.5)) for a, b in pairs]
