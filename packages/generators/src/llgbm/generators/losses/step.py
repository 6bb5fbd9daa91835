"""Step: all that a loss term can read of one training step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.generator import GeneratorOutput


class ComputesDelta(Protocol):
    """The frozen base with probes, such as `training.behaviour.Behaviour`."""

    def __call__(self, weights: LoRAWeights) -> Tensor:
        """Return the differentiable deltas of n adapters, [n, *delta_shape] float32."""
        ...

    def log_probabilities(self, deltas: Tensor) -> Tensor:
        """Return the next-token log-probabilities behind deltas, [n, p, vocabulary] float32."""
        ...


# Adapters of the step, in its order -> mean loss of each on examples of its task, [n].
TaskLoss = Callable[[LoRAWeights], Tensor]


@dataclass
class Step:
    """One step's inputs; what is expensive is computed once, when a term first asks.

    Attributes:
        number: counted from 0.
        output: of the generator, b items.
        teacher_weights: n = b adapters.
        teacher_delta: [b, *delta_shape] float32.
        behaviour: computes deltas; may be None in steps where no term needs one.
        task_loss: loss of adapters on the items' own tasks; likewise.
        whole_weights: teachers of the step over all processes, where there are several: sizes
            are read off them, so that the loss does not depend on how the items are shared out.
        whole_delta: deltas of the same.
        gradient: whether the computed delta is differentiated.
    """

    number: int
    output: GeneratorOutput
    teacher_weights: LoRAWeights
    teacher_delta: Tensor
    behaviour: ComputesDelta | None = None
    task_loss: TaskLoss | None = None
    whole_weights: LoRAWeights | None = None
    whole_delta: Tensor | None = None
    gradient: bool = True
    _computed: Tensor | None = field(default=None, init=False)

    @property
    def computed_delta(self) -> Tensor:
        """What the generated adapters really do, [b, *delta_shape] float32.

        Raises:
            ValueError: `behaviour` is None.
        """
        if self._computed is None:
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.gradient):
                self._computed = self.needed_behaviour(self.output.weights)
        return self._computed

    @property
    def needed_behaviour(self) -> ComputesDelta:
        """The behaviour.

        Raises:
            ValueError: it is None.
        """
        if self.behaviour is None:
            raise ValueError(
                f"step {self.number}: expected a behaviour, which this step needs, got None"
            )
        return self.behaviour
