"""Hyperparameters of adapter runs, drawn so that runs gain and lose unlike much."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass

from llgbm.deltas.errors import SettingError, require_at_least


@dataclass(frozen=True)
class RunHyperparameters:
    """Of one run.

    Attributes:
        lr: peak learning rate.
        replay: share of examples that are the base's own continuations of general text.
        examples: different examples of the task.
    """

    lr: float
    replay: float
    examples: int

    def numbers(self) -> dict[str, float]:
        """By name; learning rate and examples as logarithms to base 10, along which runs differ."""
        found = asdict(self)
        return {
            "log10_lr": math.log10(found["lr"]),
            "replay": found["replay"],
            "log10_examples": math.log10(found["examples"]),
        }


@dataclass(frozen=True)
class HyperparameterRanges:
    """Bounds that hyperparameters are drawn from.

    Args:
        lr_low: of the learning rate, which is drawn by its logarithm.
        lr_high: likewise.
        replay_high: largest share of replayed text; the smallest is 0.
        examples_low: of the number of different examples, drawn by its logarithm.
        examples_high: likewise.
    """

    lr_low: float = 2e-4
    lr_high: float = 5e-3
    replay_high: float = 0.5
    examples_low: int = 16
    examples_high: int = 256

    def __post_init__(self) -> None:
        require_at_least(1e-8, lr_low=self.lr_low)
        require_at_least(self.lr_low, lr_high=self.lr_high)
        require_at_least(1, examples_low=self.examples_low)
        require_at_least(self.examples_low, examples_high=self.examples_high)
        if not 0 <= self.replay_high <= 0.9:
            raise SettingError(f"replay_high: expected 0 to 0.9, got {self.replay_high:g}")

    def draw(self, runs: int, seed: int) -> list[RunHyperparameters]:
        """Draw each run's, spread evenly over every range (a Latin hypercube).

        Args:
            runs: how many.
            seed: of the draw; a run's numbers depend on how many there are.
        """
        rng = random.Random(f"sideways-hyperparameters:{seed}")

        def column() -> list[float]:
            places = [(index + rng.random()) / runs for index in range(runs)]
            rng.shuffle(places)
            return places

        return [
            RunHyperparameters(
                lr=_between(self.lr_low, self.lr_high, first),
                replay=self.replay_high * second,
                examples=round(_between(self.examples_low, self.examples_high, third)),
            )
            for first, second, third in zip(column(), column(), column(), strict=True)
        ]


def _between(low: float, high: float, place: float) -> float:
    return math.exp(math.log(low) + place * (math.log(high) - math.log(low)))
