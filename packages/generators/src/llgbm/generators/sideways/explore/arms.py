"""Who may name checkpoints for a front, each as many, from training runs alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.anchored import Blocks, Mixture, mixed
from llgbm.generators.sideways.explore.find_front import FrontSearch, find_candidates, find_front
from llgbm.generators.sideways.explore.front import (
    hypervolume,
    reference_point,
    spread_over_front,
)
from llgbm.generators.sideways.explore.meter import Meter
from llgbm.generators.sideways.explore.proposals import measure_blocks, measure_latents
from llgbm.generators.sideways.model.files import SidewaysModel

PROPOSALS, CHECKPOINTS = "proposals", "training checkpoints"


class FrontArms:
    """Names at most `count` checkpoints an arm.

    Where there is a meter, what is proposed, and what lies half way or a third between checkpoints,
    is measured by it, several candidates for each that is named: those are named that dominate most
    as measured.

    Args:
        model: fitted to the training runs.
        aims: of the front.
        search: of proposals; how many an arm may name, and the seed of draws.
        meter: of the metrics of the training checkpoints.
    """

    def __init__(
        self, model: SidewaysModel, aims: Aims, search: FrontSearch, meter: Meter | None = None
    ) -> None:
        self.model, self.aims, self._meter = model, aims, meter
        self.count, self.seed = search.proposals, search.seed
        self.most = self.count * (search.tried if meter else 1)
        self.places = model.split.places(model.collection, "train")
        self.points = aims.pick(model.train_table.metrics)
        self.reference = reference_point(self.points)
        self.front = spread_over_front(self.points, self.reference, self.count)
        # All candidates with what was measured of them, and those that are proposed.
        self.tried = (find_candidates if meter else find_front)(model, aims, search)
        self.tried_measured = measure_latents(model, self.tried, meter) if meter else []
        chosen = self._best(self.tried_measured) if meter else list(range(len(self.tried)))
        self.latents = self.tried.select(chosen)
        self.measured = [self.tried_measured[row] for row in chosen] if meter else None

    def volume(self, measured: Sequence[Mapping[str, float]]) -> float:
        """Hypervolume of measured metrics above the training front's reference point."""
        return hypervolume(self._points(measured), self.reference)

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

    def _points(self, measured: Sequence[Mapping[str, float]]) -> Tensor:
        rows = [[each[name] for name in self.aims.names] for each in measured]
        return torch.tensor(rows) * self.aims.signs

    def _best(self, measured: Sequence[Mapping[str, float]]) -> list[int]:
        return spread_over_front(self._points(measured), self.reference, self.count)

    def _read(self, rows: Sequence[int]) -> list[Blocks]:
        return [self.model.collection.weights(self.places[row]) for row in rows]

    def _nearest(self) -> list[Blocks]:
        """The training checkpoints whose latents are nearest to the proposals'."""
        nearest = self.latents.space.nearest(self.latents.z)
        return self._read(sorted(set(nearest.tolist())))

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
        found = [mixed(self.model, each) for each in mixtures[: self.most]]
        if self._meter is None:
            return found
        return [found[row] for row in self._best(measure_blocks(self._meter, found))]

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
        space = self.latents.space
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            return separate(self.model.weights(space.sample(self.count, generator)))


def separate(blocks: Blocks) -> list[Blocks]:
    """Blocks [n, *shape] as n checkpoints."""
    count = len(next(iter(blocks.values())))
    return [{name: each[row] for name, each in blocks.items()} for row in range(count)]
