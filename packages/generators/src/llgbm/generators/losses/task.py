"""The loss of the task itself, through the generated adapter."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from llgbm.generators.losses.step import Step
from llgbm.generators.losses.terms import Runs


@dataclass(frozen=True)
class TaskSFT:
    """Cross-entropy of answers from the teacher's own examples, in nats a token (SFT).

    Needs no teacher: the generator is trained as the adapters themselves would be. It runs the
    base on the examples, not on the probes.
    """

    name: str = field(default="sft", init=False)
    runs: Runs = field(default="nothing", init=False)

    def __call__(self, step: Step) -> Tensor:
        """Return the mean over items.

        Raises:
            ValueError: the step has no `task_loss`.
        """
        if step.task_loss is None:
            raise ValueError(
                f"step {step.number}: expected a task_loss, which this step needs, got None"
            )
        return step.task_loss(step.output.weights).mean()
