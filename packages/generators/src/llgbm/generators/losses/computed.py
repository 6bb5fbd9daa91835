"""Terms on the delta that the generated adapters really cause, through the frozen base."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from llgbm.generators.losses.delta import DeltaLoss, DeltaMSELoss
from llgbm.generators.losses.step import Step
from llgbm.generators.losses.terms import Runs


@dataclass(frozen=True)
class ComputedDelta:
    """The computed delta against the teacher's (seed 001, L_delta).

    Args:
        loss: distance of deltas.
    """

    loss: DeltaLoss = field(default_factory=DeltaMSELoss)
    name: str = field(default="computed", init=False)
    runs: Runs = field(default="gradient", init=False)

    def __call__(self, step: Step) -> Tensor:
        """Return the distance."""
        return self.loss(step.computed_delta, step.teacher_delta, whole=step.whole_delta)
