"""Who may name checkpoints for a front, each as many, from training runs alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.anchored import Anchored, Blocks, Mixture, mixed, separate
from llgbm.generators.sideways.explore.front import (
    hypervolume,
    reference_point,
    spread_over_front,
)
from llgbm.generators.sideways.model.files import SidewaysModel

CHECKPOINTS, INTERPOLATION = "training checkpoints", "weight interpolation"


class FrontArms:
    """Names at most `count` checkpoints an arm; mixtures are of places in the collection.

    Args:
        model: fitted to the training runs.
        aims: of the front.
        count: of checkpoints.

    Attributes:
        points: [n, a], of the training checkpoints, more is better.
        reference: [a], where volumes are counted from.
    """

    def __init__(self, model: SidewaysModel, aims: Aims, count: int) -> None:
        self.model, self.aims, self.count = model, aims, count
        self.points = aims.pick(model.train_table.metrics)
        self.reference = reference_point(self.points)
        self._places = model.split.places(model.collection, "train")
        self._front = spread_over_front(self.points, self.reference, count)

    def volume(self, measured: Sequence[Mapping[str, float]]) -> float:
        """Hypervolume of measured metrics above the training front's reference point."""
        return hypervolume(self._points(measured), self.reference)

    def best(self, measured: Sequence[Mapping[str, float]]) -> list[int]:
        """Rows of those that together dominate most, as measured; at most `count`."""
        return spread_over_front(self._points(measured), self.reference, self.count)

    def checkpoints(self) -> list[Mixture]:
        """Those of the training front that dominate most."""
        return self._alone(self._front)

    def nearest(self, latents: Anchored) -> list[Mixture]:
        """The training checkpoints whose latents are nearest."""
        return self._alone(sorted(set(latents.space.nearest(latents.z).tolist())))

    def between(self, most: int) -> list[Mixture]:
        """Half way between neighbours on the training front, then a third of the way.

        Args:
            most: checkpoints; more than `count` are to choose from.
        """
        ordered = sorted(self._front, key=lambda row: float(self.points[row, 0]))
        mixtures: list[Mixture] = [
            ((self._places[first], 1 - share), (self._places[last], share))
            for share in (1 / 2, 1 / 3, 2 / 3)
            for first, last in pairwise(ordered)
        ]
        return mixtures[:most] or self._alone(ordered)

    def soups(self) -> list[Mixture]:
        """Plain means of the two, three, ... checkpoints that do best in sum."""
        spread = self.points.std(0).clamp_min(1e-9)
        order = (self.points / spread).sum(1).argsort(descending=True).tolist()
        best = [self._places[row] for row in order[: self.count + 1]]
        return [
            tuple((place, 1 / size) for place in best[:size]) for size in range(2, len(best) + 1)
        ]

    def best_run(self) -> list[Mixture]:
        """Checkpoints of the run that alone dominates most."""
        runs = self.model.train_table.by_run()
        best = max(runs.values(), key=lambda rows: hypervolume(self.points[rows], self.reference))
        chosen = spread_over_front(self.points[best], self.reference, self.count)
        return self._alone([best[place] for place in chosen] or best[-1:])

    def read(self, mixtures: Sequence[Mixture]) -> list[Blocks]:
        """Weights of mixtures."""
        return [mixed(self.model, each) for each in mixtures]

    @torch.no_grad()
    def random(self, seed: int) -> list[Blocks]:
        """Weights of random latents."""
        space = Anchored.training(self.model).space
        generator = torch.Generator().manual_seed(seed)
        return separate(self.model.weights(space.sample(self.count, generator)))

    def baselines(self, latents: Anchored, seed: int) -> dict[str, Callable[[], list[Blocks]]]:
        """What each reads from disk and names, but for interpolation, which may be chosen from.

        Args:
            latents: whose nearest checkpoints are asked for.
            seed: of random latents.
        """
        return {
            CHECKPOINTS: lambda: self.read(self.checkpoints()),
            "nearest checkpoints": lambda: self.read(self.nearest(latents)),
            "model soups": lambda: self.read(self.soups()),
            "best run": lambda: self.read(self.best_run()),
            "random latents": lambda: self.random(seed),
        }

    def _alone(self, rows: Sequence[int]) -> list[Mixture]:
        return [((self._places[row], 1.0),) for row in rows]

    def _points(self, measured: Sequence[Mapping[str, float]]) -> Tensor:
        rows = [[each[name] for name in self.aims.names] for each in measured]
        return torch.tensor(rows) * self.aims.signs
