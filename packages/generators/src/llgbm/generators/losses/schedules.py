"""Schedules: the factor on a term's weight, by step (seed 001, phase 4)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from llgbm.deltas.errors import SettingError


class Schedule(Protocol):
    """A factor between 0 and 1 for every step."""

    @property
    def start(self) -> int:
        """First step with a factor above 0; what only this term needs is not run before it."""
        ...

    def at(self, step: int) -> float:
        """Factor of step `step`, counted from 0."""
        ...

    def check(self, steps: int) -> None:
        """Raise SettingError where the schedule does not fit a training of so many steps."""
        ...


@dataclass(frozen=True)
class Constant:
    """A factor of 1 in every step."""

    @property
    def start(self) -> int:
        """The first step of all."""
        return 0

    def at(self, step: int) -> float:
        """One."""
        return 1.0

    def check(self, steps: int) -> None:
        """Fits every training."""


@dataclass(frozen=True)
class Ramp:
    """A factor that is 0 before step `start` and rises to 1 in a straight line.

    Args:
        start: first step with a factor above 0.
        steps: steps of the rise; 0 switches at once.

    Raises:
        SettingError: negative numbers.
    """

    start: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        _check_counts("ramp", self.start, self.steps)

    def at(self, step: int) -> float:
        """Factor of step `step`, counted from 0."""
        return _share(step, self.start, self.steps)

    def check(self, steps: int) -> None:
        """Raise SettingError where the rise does not end within `steps`."""
        _check_fit("ramp", self.start, self.steps, steps)


@dataclass(frozen=True)
class CosineRise:
    """A factor that is 0 before step `start` and rises to 1 along half a cosine.

    Args:
        start: first step with a factor above 0.
        steps: steps of the rise; 0 switches at once.

    Raises:
        SettingError: negative numbers.
    """

    start: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        _check_counts("cosine rise", self.start, self.steps)

    def at(self, step: int) -> float:
        """Factor of step `step`, counted from 0."""
        return 0.5 * (1 - math.cos(math.pi * _share(step, self.start, self.steps)))

    def check(self, steps: int) -> None:
        """Raise SettingError where the rise does not end within `steps`."""
        _check_fit("cosine rise", self.start, self.steps, steps)


@dataclass(frozen=True)
class Cyclical:
    """A factor that rises from 0 to 1 again and again (Fu et al. 2019; seed 000, beta annealing).

    Args:
        period: steps of a cycle.
        rise: share of a cycle that rises; the rest stays at 1.

    Raises:
        SettingError: no period, or a share outside (0, 1].
    """

    period: int = 400
    rise: float = 0.5

    def __post_init__(self) -> None:
        if self.period < 1:
            raise SettingError(f"cyclical: period: expected at least 1, got {self.period}")
        if not 0 < self.rise <= 1:
            raise SettingError(f"cyclical: rise: expected in (0, 1], got {self.rise:g}")

    @property
    def start(self) -> int:
        """The first step of all."""
        return 0

    def at(self, step: int) -> float:
        """Factor of step `step`, counted from 0."""
        place = step % self.period
        return min(1.0, place / (self.rise * self.period))

    def check(self, steps: int) -> None:
        """Raise SettingError where the first rise does not end within `steps`."""
        if self.rise * self.period > steps:
            raise SettingError(
                f"cyclical: expected the first rise to end within the {steps} steps of the "
                f"training, got a rise of {self.rise * self.period:g} steps"
            )


def _share(step: int, start: int, rise: int) -> float:
    if step < start:
        return 0.0
    return min(1.0, (step - start + 1) / max(1, rise))


def _check_counts(name: str, start: int, rise: int) -> None:
    if start < 0 or rise < 0:
        raise SettingError(f"{name}: expected at least 0, got {start} and {rise}")


def _check_fit(name: str, start: int, rise: int, steps: int) -> None:
    if start >= steps or start + rise > steps:
        raise SettingError(
            f"{name}: expected to reach its full weight within the {steps} steps of the training, "
            f"got start {start} and {rise} steps of rise"
        )
