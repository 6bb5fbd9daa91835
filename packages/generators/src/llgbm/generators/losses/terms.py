"""Terms: named losses of a step, and their weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from llgbm.generators.losses.schedules import Constant, Schedule
from llgbm.generators.losses.step import Step

# What a term has the base model run for: nothing, a delta that is only a target, or one that
# is differentiated.
Runs = Literal["nothing", "target", "gradient"]


class Term(Protocol):
    """A loss of one step.

    Attributes:
        name: under which it is recorded.
        runs: what the base model has to do for it.
    """

    @property
    def name(self) -> str:
        """Name in the record."""
        ...

    @property
    def runs(self) -> Runs:
        """What the base model does for it."""
        ...

    def __call__(self, step: Step) -> Tensor:
        """Return a scalar."""
        ...


@dataclass(frozen=True)
class Weighted:
    """A term with its weight.

    Args:
        term: the loss.
        weight: at least 0; a term of weight 0 is never computed.
        schedule: factor on the weight by step.
        every: steps 0, every, 2 * every, ... have the term.
    """

    term: Term
    weight: float
    schedule: Schedule = field(default_factory=Constant)
    every: int = 1

    def acts_on(self, step: int) -> bool:
        """Whether step `step` has this term."""
        return self.weight > 0 and step >= self.schedule.start and step % self.every == 0


@dataclass(frozen=True)
class LossBreakdown:
    """A step's loss.

    Attributes:
        total: scalar to differentiate.
        terms: each term before its weight, detached, by name.
    """

    total: Tensor
    terms: dict[str, Tensor]


def weighted_sum(terms: Sequence[Weighted], step: Step) -> LossBreakdown:
    """Compute the terms that act on a step and add them up.

    Args:
        terms: all terms of a training.
        step: this one; its `gradient` is set by what the terms need.

    Raises:
        ValueError: a term needs what `step` lacks.
    """
    active = [item for item in terms if item.acts_on(step.number)]
    step.gradient = any(item.term.runs == "gradient" for item in active)
    parts, record = [], {}
    for item in active:
        value = item.term(step)
        record[item.term.name] = value.detach()
        parts.append(item.weight * item.schedule.at(step.number) * value)
    # A step without terms still has a loss to differentiate.
    parts = parts or [0 * step.output.delta.sum()]
    return LossBreakdown(torch.stack(parts).sum(), record)


def runs_base(terms: Sequence[Weighted], step: int) -> bool:
    """Whether step `step` computes a delta through the base model."""
    return any(item.acts_on(step) and item.term.runs != "nothing" for item in terms)


def check_weights(**weights: float) -> None:
    """Raise ValueError for weights below 0 or not finite, and where none is above 0."""
    for name, value in weights.items():
        if not (value >= 0 and torch.isfinite(torch.tensor(value))):
            raise ValueError(f"{name}: expected at least 0, got {value}")
    if not any(weights.values()):
        raise ValueError(f"{', '.join(weights)}: expected one above 0, got none")
