"""Which metrics are wanted, and whether more or less of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.deltas.errors import SettingError
from llgbm.generators.sideways.adapters.measure import GAIN, RETENTION
from llgbm.generators.sideways.adapters.source import KIND
from llgbm.generators.sideways.model.files import SidewaysModel

MOST = 4


@dataclass(frozen=True)
class Aims:
    """Metrics of a front.

    Attributes:
        names: of them.
        places: in the model's metrics.
        signs: [a], +1 where more is better, -1 where less is.
    """

    names: tuple[str, ...]
    places: tuple[int, ...]
    signs: Tensor

    @classmethod
    def of(cls, model: SidewaysModel, metrics: Sequence[str], minimise: Sequence[str]) -> Aims:
        """Look metrics up.

        Args:
            model: whose metrics they are.
            metrics: wanted ones; of adapter runs gain and retention, else all, where empty.
            minimise: those of which less is better.

        Raises:
            SettingError: unknown ones, fewer than two, or more than four.
        """
        usual = (GAIN, RETENTION) if model.collection.source.get("kind") == KIND else model.metrics
        names = tuple(dict.fromkeys([*(metrics or usual)]))
        for name in (*names, *minimise):
            if name not in model.metrics:
                raise SettingError(f"metrics: expected among {list(model.metrics)}, got {name!r}")
        unasked = [name for name in minimise if name not in names]
        if unasked:
            raise SettingError(f"minimise: expected among the metrics {names}, got {unasked}")
        if not 2 <= len(names) <= MOST:
            raise SettingError(
                f"metrics: expected 2 to {MOST} for a front, got {len(names)}: name them"
            )
        signs = torch.tensor([-1.0 if name in minimise else 1.0 for name in names])
        return cls(names, tuple(model.metrics.index(name) for name in names), signs)

    def pick(self, metrics: Tensor) -> Tensor:
        """[..., m] to [..., a], turned so that more is better."""
        return metrics[..., list(self.places)] * self.signs

    def turn_back(self, picked: Tensor) -> Tensor:
        """Undo the turning of [..., a]."""
        return picked * self.signs

    def achievement(self, model: SidewaysModel, points: Tensor) -> Tensor:
        """Picked metrics [..., a] above the worst training checkpoint's, in standard deviations."""
        lowest = self.pick(model.train_table.metrics).amin(0)
        return (points - lowest) / model.vae.metric_scale.own_spread[list(self.places)]
