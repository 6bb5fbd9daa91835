"""The term on the teachers' weights."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from llgbm.generators.losses.step import Step
from llgbm.generators.losses.terms import Runs
from llgbm.generators.losses.weights import WeightDistance, WeightLoss


@dataclass(frozen=True)
class TeacherWeights:
    """Generated factors, or the updates they make, against the teacher's (seed 002, L_weight).

    Args:
        loss: distance of weights.
    """

    loss: WeightDistance = field(default_factory=WeightLoss)
    name: str = field(default="weight", init=False)
    runs: Runs = field(default="nothing", init=False)

    def __call__(self, step: Step) -> Tensor:
        """Return the distance."""
        return self.loss(step.output.weights, step.teacher_weights, step.whole_weights)
