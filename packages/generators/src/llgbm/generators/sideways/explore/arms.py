"""Who may name checkpoints for a front, each as many, from training runs alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch

from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.anchored import Blocks, Mixture, mixed
from llgbm.generators.sideways.explore.find_front import FrontSearch, find_front
from llgbm.generators.sideways.explore.front import (
    hypervolume,
    reference_point,
    spread_over_front,
)
from llgbm.generators.sideways.explore.latent_space import LatentSpace
from llgbm.generators.sideways.model.files import SidewaysModel

PROPOSALS, CHECKPOINTS = "proposals", "training checkpoints"


class FrontArms:
    """Names at most `count` checkpoints an arm.

    Args:
        model: fitted to the training runs.
        aims: of the front.
        search: of proposals; how many an arm may name, and the seed of draws.
    """

    def __init__(self, model: SidewaysModel, aims: Aims, search: FrontSearch) -> None:
        self.model, self.aims = model, aims
        self.count, self.seed = search.proposals, search.seed
        self.places = model.split.places(model.collection, "train")
        self.points = aims.pick(model.train_table.metrics)
        self.reference = reference_point(self.points)
        self.front = spread_over_front(self.points, self.reference, self.count)
        self.latents = find_front(model, aims, search)

    def volume(self, measured: Sequence[Mapping[str, float]]) -> float:
        """Hypervolume of measured metrics above the training front's reference point."""
        rows = [[each[name] for name in self.aims.names] for each in measured]
        return hypervolume(torch.tensor(rows) * self.aims.signs, self.reference)

    def named(self) -> Mapping[str, Callable[[], list[Blocks]]]:
        """Arms by name."""
        return {
            CHECKPOINTS: lambda: self._read(self.front),
            PROPOSALS: lambda: separate(self.latents.weights(self.model)),
            "nearest checkpoints": self._nearest,
            "weight interpolation": self._between,
            "model soups": self._soups,
            "best run": self._best_run,
            "random latents": self._random,
        }

    def _read(self, rows: Sequence[int]) -> list[Blocks]:
        return [self.model.collection.weights(self.places[row]) for row in rows]

    def _nearest(self) -> list[Blocks]:
        """The training checkpoints whose latents are nearest to the proposals'."""
        space = LatentSpace.of(self.model)
        return self._read(sorted(set(space.nearest(self.latents.z).tolist())))

    def _between(self) -> list[Blocks]:
        """Half way between neighbours on the training front, then a third."""
        ordered = sorted(self.front, key=lambda row: float(self.points[row, 0]))
        mixtures: list[Mixture] = [
            ((self.places[first], 1 - share), (self.places[last], share))
            for share in (1 / 2, 1 / 3, 2 / 3)
            for first, last in pairwise(ordered)
        ]
        if not mixtures:
            return self._read(ordered)
        return [mixed(self.model, each) for each in mixtures[: self.count]]

    def _soups(self) -> list[Blocks]:
        """Plain means of the two, three, ... checkpoints that do best in sum."""
        spread = self.points.std(0).clamp_min(1e-9)
        order = (self.points / spread).sum(1).argsort(descending=True).tolist()
        best = [self.places[row] for row in order[: self.count + 1]]
        return [
            mixed(self.model, tuple((place, 1 / size) for place in best[:size]))
            for size in range(2, len(best) + 1)
        ]

    def _best_run(self) -> list[Blocks]:
        """Checkpoints of the run that alone dominates most."""
        runs = self.model.train_table.by_run()
        best = max(runs.values(), key=lambda rows: hypervolume(self.points[rows], self.reference))
        chosen = spread_over_front(self.points[best], self.reference, self.count)
        return self._read([best[place] for place in chosen] or best[-1:])

    def _random(self) -> list[Blocks]:
        space = LatentSpace.of(self.model)
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            return separate(self.model.weights(space.sample(self.count, generator)))


def separate(blocks: Blocks) -> list[Blocks]:
    """Blocks [n, *shape] as n checkpoints."""
    count = len(next(iter(blocks.values())))
    return [{name: each[row] for name, each in blocks.items()} for row in range(count)]
