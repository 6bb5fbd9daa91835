"""Weights over a training: what multiplies a loss term or a learning rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from llgbm.latentwire.errors import ConfigError

SHAPES = ("constant", "linear", "cosine", "peak")
GATES = ("answer", "cosine")


@dataclass(frozen=True)
class ScheduleConfig:
    """A factor from 0 to 1 (for `peak` from 1 to `peak`) over the share of training done.

    Args:
        shape: `constant` (1; its start value while a gate is closed), `linear` or `cosine` (from
            `start_value` to `end_value` between the shares `begin` and `end`), `peak` (from `peak`
            down to 1 there: a term that is strong first and tapers).
        begin: share of the steps before anything moves (delayed annealing).
        end: share at which the last value is reached.
        start_value: factor up to `begin`.
        end_value: factor from `end` on.
        peak: first factor of the shape `peak`, at most 4 (anchor: automatic up-weight).
        gate: the term waits, at its start value, until what `gate_on` names passes this; then
            its schedule begins. 0 does not wait.
        gate_on: `answer` (the smoothed answer loss falls below the gate) or `cosine` (the smoothed
            cosine of the term `reconstruction` rises above it; seed 004's cosine gate).
    """

    shape: Literal["constant", "linear", "cosine", "peak"] = "constant"
    begin: float = 0.0
    end: float = 1.0
    start_value: float = 0.0
    end_value: float = 1.0
    peak: float = 4.0
    gate: float = 0.0
    gate_on: Literal["answer", "cosine"] = "answer"

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ConfigError(f"schedule.shape: expected one of {SHAPES}, got {self.shape!r}")
        if not 0 <= self.begin < self.end <= 1:
            raise ConfigError(
                f"schedule: expected 0 <= begin < end <= 1, got {self.begin:g}, {self.end:g}"
            )
        if not 1 <= self.peak <= 4:
            raise ConfigError(f"schedule.peak: expected from 1 to 4, got {self.peak:g}")
        numbers = (self.start_value, self.end_value, self.gate)
        if not all(0 <= number < math.inf for number in numbers):
            raise ConfigError(
                "schedule: expected start_value, end_value and gate of at least 0, finite, "
                f"got {', '.join(f'{number:g}' for number in numbers)}"
            )
        if self.gate_on not in GATES:
            raise ConfigError(f"schedule.gate_on: expected one of {GATES}, got {self.gate_on!r}")
        if self.gate_on == "cosine" and self.gate >= 1:
            raise ConfigError(f"schedule.gate: expected below 1 for a cosine, got {self.gate:g}")

    def factor(self, done: float) -> float:
        """Factor where the share `done` of the steps, 0 to 1, has been taken."""
        if self.shape == "constant":
            return 1.0
        last = 1.0 if self.shape == "peak" else self.end_value
        share = min(1.0, max(0.0, (done - self.begin) / (self.end - self.begin)))
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.first + (last - self.first) * share

    @property
    def first(self) -> float:
        """Factor before anything moves, and while a gate is closed."""
        return self.peak if self.shape == "peak" else self.start_value
