"""Terms that train the delta head, which predicts a delta without running the base."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from llgbm.generators.losses.delta import DeltaLoss, DeltaMSELoss
from llgbm.generators.losses.step import Step
from llgbm.generators.losses.terms import Runs


@dataclass(frozen=True)
class PredictedDelta:
    """The head's delta against the teacher's (seed 002, lambda_pred).

    Args:
        loss: distance of deltas.
    """

    loss: DeltaLoss = field(default_factory=DeltaMSELoss)
    name: str = field(default="pred", init=False)
    runs: Runs = field(default="nothing", init=False)

    def __call__(self, step: Step) -> Tensor:
        """Return the distance."""
        return self.loss(step.output.delta, step.teacher_delta, whole=step.whole_delta)


@dataclass(frozen=True)
class Consistency:
    """The head's delta against the computed one (seed 002, lambda_consistency).

    The computed delta is the target and gets no gradient from it, or behaviour would drift
    towards the head's guess.

    Args:
        loss: distance of deltas.
    """

    loss: DeltaLoss = field(default_factory=DeltaMSELoss)
    name: str = field(default="consistency", init=False)
    runs: Runs = field(default="target", init=False)

    def __call__(self, step: Step) -> Tensor:
        """Return the distance, in units of the teachers' deltas: computed ones start at zero."""
        target = step.computed_delta.detach()
        return self.loss(step.output.delta, target, step.teacher_delta, step.whole_delta)
