"""Objectives: which terms a step trains on, and when the real delta is computed (seed 002)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.generator import GeneratorOutput
from llgbm.generators.losses.delta import DeltaMSELoss
from llgbm.generators.losses.weights import WeightLoss, delta_w_inner

WeightTerm = Callable[[LoRAWeights, LoRAWeights], Tensor]
ComputeDelta = Callable[[LoRAWeights], Tensor]


class DeltaTerm(Protocol):
    """A loss on deltas, such as DeltaMSELoss."""

    def __call__(
        self, predicted: Tensor, target: Tensor, reference: Tensor | None = None
    ) -> Tensor:
        """Return a scalar; `reference` sets the unit of size."""
        ...


@dataclass(frozen=True)
class LossBreakdown:
    """A step's loss.

    Attributes:
        total: scalar to differentiate.
        terms: each term before its weight, detached, by name.
    """

    total: Tensor
    terms: dict[str, Tensor]


@dataclass(frozen=True)
class Ramp:
    """A factor that is 0 before step `start` and rises to 1 over `steps` (seed 001, phase 4).

    Args:
        start: first step with a factor above 0.
        steps: steps of the rise; 0 switches at once.

    Raises:
        ValueError: negative numbers.
    """

    start: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        if self.start < 0 or self.steps < 0:
            raise ValueError(f"ramp: expected at least 0, got {self.start} and {self.steps}")

    def at(self, step: int) -> float:
        """Factor of step `step`, counted from 0."""
        if step < self.start:
            return 0.0
        return min(1.0, (step - self.start + 1) / max(1, self.steps))


class Objective(Protocol):
    """What a step minimises."""

    def needs_computed_delta(self, step: int) -> bool:
        """Say whether this step runs the base model on the generated adapters."""
        ...

    def __call__(
        self,
        output: GeneratorOutput,
        teacher_weights: LoRAWeights,
        teacher_delta: Tensor,
        compute_delta: ComputeDelta | None,
        step: int,
    ) -> LossBreakdown:
        """Return the loss of a step.

        Args:
            output: of the generator, b items.
            teacher_weights: n = b adapters.
            teacher_delta: [b, *delta_shape] float32.
            compute_delta: the differentiable delta of adapters, [b, *delta_shape]; may be None
                where `needs_computed_delta(step)` is false.
            step: counted from 0.

        Raises:
            ValueError: a delta is needed and `compute_delta` is None.
        """
        ...


def combine(terms: Mapping[str, tuple[float, Tensor]]) -> LossBreakdown:
    """Sum weighted terms and keep each for the record; a term of weight 0 is only recorded."""
    parts = [weight * term for weight, term in terms.values() if weight > 0]
    # A step none of whose terms weighs anything still has a loss to differentiate.
    parts = parts or [0 * term for _, term in terms.values()]
    record = {name: term.detach() for name, (_, term) in terms.items()}
    return LossBreakdown(torch.stack(parts).sum(), record)


def _compute(compute_delta: ComputeDelta | None, weights: LoRAWeights, step: int) -> Tensor:
    if compute_delta is None:
        raise ValueError(f"step {step}: expected compute_delta, which this step needs, got None")
    return compute_delta(weights)


def _check_weights(**weights: float) -> None:
    for name, value in weights.items():
        if not value >= 0:
            raise ValueError(f"{name}: expected at least 0, got {value}")
    if not any(weights.values()):
        raise ValueError(f"{', '.join(weights)}: expected one above 0, got none")


@dataclass(frozen=True)
class MultiTask:
    """L = lambda_weight * L_weight + lambda_delta * L_delta(computed), every step (phase 4).

    With lambda_delta = 0 it is training on weights alone: no base model is run. The delta head
    is not trained.

    Args:
        lambda_weight: weight of the weight term.
        lambda_delta: weight of the computed delta's term.
        ramp: factor on it; the base model does not run before its start.
        weight_loss: term on weights.
        delta_loss: term on deltas.

    Raises:
        ValueError: negative weights or none above 0.
    """

    lambda_weight: float = 1.0
    lambda_delta: float = 1.0
    ramp: Ramp = field(default_factory=Ramp)
    weight_loss: WeightTerm = field(default_factory=WeightLoss)
    delta_loss: DeltaTerm = field(default_factory=DeltaMSELoss)

    def __post_init__(self) -> None:
        _check_weights(lambda_weight=self.lambda_weight, lambda_delta=self.lambda_delta)
        if not self.lambda_weight and self.ramp.start:
            raise ValueError("ramp: expected a start of 0 where lambda_weight is 0")

    def needs_computed_delta(self, step: int) -> bool:
        """Every step from the ramp's start on, unless its weight is 0."""
        return self.lambda_delta > 0 and step >= self.ramp.start

    def __call__(
        self,
        output: GeneratorOutput,
        teacher_weights: LoRAWeights,
        teacher_delta: Tensor,
        compute_delta: ComputeDelta | None,
        step: int,
    ) -> LossBreakdown:
        """Return the loss; see Objective."""
        terms = {}
        if self.lambda_weight > 0:
            loss = self.weight_loss(output.weights, teacher_weights)
            terms["weight"] = (self.lambda_weight, loss)
        if self.needs_computed_delta(step):
            computed = _compute(compute_delta, output.weights, step)
            factor = self.ramp.at(step) * self.lambda_delta
            terms["computed"] = (factor, self.delta_loss(computed, teacher_delta))
        return combine(terms)


@dataclass(frozen=True)
class DeltaOnly:
    """L = L_delta(computed) + norm_penalty * mean ||s B A||², every step (phase 5).

    Sees no teacher weights; the penalty keeps what the probes do not see from growing. The delta
    head is not trained.

    Args:
        norm_penalty: weight of the mean squared Frobenius norm of a module's update.
        delta_loss: term on deltas.

    Raises:
        ValueError: a negative penalty.
    """

    norm_penalty: float = 0.0
    delta_loss: DeltaTerm = field(default_factory=DeltaMSELoss)

    def __post_init__(self) -> None:
        if not self.norm_penalty >= 0:
            raise ValueError(f"norm_penalty: expected at least 0, got {self.norm_penalty}")

    def needs_computed_delta(self, step: int) -> bool:
        """Every step."""
        return True

    def __call__(
        self,
        output: GeneratorOutput,
        teacher_weights: LoRAWeights,
        teacher_delta: Tensor,
        compute_delta: ComputeDelta | None,
        step: int,
    ) -> LossBreakdown:
        """Return the loss; see Objective."""
        computed = _compute(compute_delta, output.weights, step)
        terms = {"computed": (1.0, self.delta_loss(computed, teacher_delta))}
        if self.norm_penalty > 0:
            squared = delta_w_inner(output.weights, output.weights).mean()
            terms["norm"] = (self.norm_penalty, squared)
        return combine(terms)


@dataclass(frozen=True)
class DeltaGuided:
    """The delta head every step, the computed delta every `every_n` steps (phase 4.5).

    The consistency term pulls the head towards what adapters really do; the computed delta is
    its target and gets no gradient from it, or behaviour would drift towards the head's guess.

    Args:
        every_n: steps 0, every_n, 2 * every_n, ... run the base model.
        lambda_pred: weight of the head's delta against the teacher's, every step.
        lambda_computed: weight of the computed delta against the teacher's.
        lambda_consistency: weight of the head's delta against the computed one.
        lambda_weight: weight of the weight term, every step.
        ramp: factor on the two terms that run the base model; they do not run before its start.
        weight_loss: term on weights.
        delta_loss: term on deltas.

    Raises:
        ValueError: every_n below 1, negative weights, or none above 0.
    """

    every_n: int = 4
    lambda_pred: float = 1.0
    lambda_computed: float = 1.0
    lambda_consistency: float = 1.0
    lambda_weight: float = 0.0
    ramp: Ramp = field(default_factory=Ramp)
    weight_loss: WeightTerm = field(default_factory=WeightLoss)
    delta_loss: DeltaTerm = field(default_factory=DeltaMSELoss)

    def __post_init__(self) -> None:
        if self.every_n < 1:
            raise ValueError(f"every_n: expected at least 1, got {self.every_n}")
        _check_weights(
            lambda_pred=self.lambda_pred,
            lambda_computed=self.lambda_computed,
            lambda_consistency=self.lambda_consistency,
            lambda_weight=self.lambda_weight,
        )

    def needs_computed_delta(self, step: int) -> bool:
        """Every `every_n` steps, unless both terms that use it have weight 0."""
        wanted = self.lambda_computed > 0 or self.lambda_consistency > 0
        return wanted and step >= self.ramp.start and step % self.every_n == 0

    def __call__(
        self,
        output: GeneratorOutput,
        teacher_weights: LoRAWeights,
        teacher_delta: Tensor,
        compute_delta: ComputeDelta | None,
        step: int,
    ) -> LossBreakdown:
        """Return the loss; see Objective."""
        terms = {"pred": (self.lambda_pred, self.delta_loss(output.delta, teacher_delta))}
        if self.lambda_weight > 0:
            loss = self.weight_loss(output.weights, teacher_weights)
            terms["weight"] = (self.lambda_weight, loss)
        if self.needs_computed_delta(step):
            # Without its own term it is a target alone: no backward through the base model.
            with torch.set_grad_enabled(torch.is_grad_enabled() and self.lambda_computed > 0):
                computed = _compute(compute_delta, output.weights, step)
            # In units of the teachers' deltas: the computed ones start at zero.
            consistency = self.delta_loss(output.delta, computed.detach(), teacher_delta)
            factor = self.ramp.at(step)
            loss = self.delta_loss(computed, teacher_delta)
            terms["computed"] = (factor * self.lambda_computed, loss)
            terms["consistency"] = (factor * self.lambda_consistency, consistency)
        return combine(terms)
