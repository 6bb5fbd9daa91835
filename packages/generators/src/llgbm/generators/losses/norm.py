"""A penalty on the size of generated updates."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from llgbm.generators.losses.step import Step
from llgbm.generators.losses.terms import Runs
from llgbm.generators.losses.weights import delta_w_inner


@dataclass(frozen=True)
class NormPenalty:
    """Mean squared Frobenius norm of a module's update s B A (seed 001, phase 5).

    Keeps what the probes do not see from growing.
    """

    name: str = field(default="norm", init=False)
    runs: Runs = field(default="nothing", init=False)

    def __call__(self, step: Step) -> Tensor:
        """Return the mean over items and modules."""
        weights = step.output.weights
        return delta_w_inner(weights, weights).mean()
