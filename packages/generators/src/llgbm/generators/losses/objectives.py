"""Objectives: the compositions of terms that the seeds name (seed 001, phases 4 to 5; seed 002)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from llgbm.deltas.errors import SettingError
from llgbm.generators.losses.computed import ComputedDelta
from llgbm.generators.losses.delta import DeltaCosineLoss, DeltaMSELoss, DeltaSumLoss
from llgbm.generators.losses.head import Consistency, PredictedDelta
from llgbm.generators.losses.norm import NormPenalty
from llgbm.generators.losses.probe_kl import ProbeKL
from llgbm.generators.losses.schedules import Constant, CosineRise, Ramp
from llgbm.generators.losses.step import Step
from llgbm.generators.losses.task import TaskSFT
from llgbm.generators.losses.teacher_weights import TeacherWeights
from llgbm.generators.losses.terms import (
    LossBreakdown,
    Weighted,
    check_weights,
    runs_base,
    weighted_sum,
)
from llgbm.generators.losses.token_weights import TokenWeightLoss
from llgbm.generators.losses.weights import DeltaWeightLoss, WeightLoss

# Unions of what there is, so that a command line can choose.
AnySchedule = Constant | Ramp | CosineRise
AnyWeightLoss = WeightLoss | DeltaWeightLoss | TokenWeightLoss
AnyDeltaLoss = DeltaMSELoss | DeltaCosineLoss | DeltaSumLoss


class Objective(ABC):
    """What a training minimises: a sum of weighted terms."""

    @abstractmethod
    def terms(self) -> tuple[Weighted, ...]:
        """All terms with their weights and schedules."""

    def __call__(self, step: Step) -> LossBreakdown:
        """Return the loss of a step.

        Raises:
            ValueError: a term needs what the step lacks.
        """
        return weighted_sum(self.terms(), step)

    def runs_base(self, step: int) -> bool:
        """Whether step `step` computes a delta through the base model."""
        return runs_base(self.terms(), step)

    def runs_tasks(self, step: int) -> bool:
        """Whether step `step` runs the base model on the tasks' own examples."""
        return any(item.acts_on(step) for item in self.terms() if item.term.name == TaskSFT.name)

    @property
    def trains_head(self) -> bool:
        """Whether a term trains the delta head."""
        return any(
            item.weight > 0 and isinstance(item.term, PredictedDelta | Consistency)
            for item in self.terms()
        )

    @property
    def reads_next_tokens(self) -> bool:
        """Whether a term reads the distributions of next tokens after the probes."""
        return any(item.weight > 0 and item.term.name == ProbeKL.name for item in self.terms())

    def check(self, steps: int) -> None:
        """Raise SettingError where a term does not fit a training of so many steps."""
        for item in self.terms():
            if item.weight <= 0:
                continue
            item.schedule.check(steps)
            if not any(item.acts_on(step) for step in range(steps)):
                raise SettingError(
                    f"{item.term.name}: expected to act in one of the {steps} steps at least, got "
                    f"none: it begins at {item.schedule.start} and acts every {item.every}"
                )


@dataclass(frozen=True)
class MultiTask(Objective):
    """L = lambda_weight * L_weight + lambda_delta * L_delta(computed), every step (phase 4).

    With lambda_delta = 0 it is training on weights alone: no base model is run. The delta head
    is not trained.

    Args:
        lambda_weight: weight of the weight term.
        lambda_delta: weight of the computed delta's term.
        lambda_kl: weight of the KL tether on the probes' next tokens.
        lambda_sft: weight of the task loss through the generated adapter.
        schedule: factor on the delta and KL terms; they do not run before its start.
        weight_loss: distance of weights: of factors, or of the updates that they make.
        delta_loss: distance of deltas.

    Raises:
        ValueError: negative weights, none above 0, or none that acts from the start.
    """

    lambda_weight: float = 1.0
    lambda_delta: float = 1.0
    lambda_kl: float = 0.0
    lambda_sft: float = 0.0
    schedule: AnySchedule = field(default_factory=Constant)
    weight_loss: AnyWeightLoss = field(default_factory=WeightLoss)
    delta_loss: AnyDeltaLoss = field(default_factory=DeltaMSELoss)

    def __post_init__(self) -> None:
        check_weights(
            lambda_weight=self.lambda_weight,
            lambda_delta=self.lambda_delta,
            lambda_kl=self.lambda_kl,
            lambda_sft=self.lambda_sft,
        )
        if not (self.lambda_weight or self.lambda_sft) and self.schedule.start:
            raise ValueError(
                "schedule: expected a start of 0 where lambda_weight and lambda_sft are 0"
            )

    def terms(self) -> tuple[Weighted, ...]:
        """See Objective."""
        return (
            Weighted(TeacherWeights(self.weight_loss), self.lambda_weight),
            Weighted(ComputedDelta(self.delta_loss), self.lambda_delta, self.schedule),
            Weighted(ProbeKL(), self.lambda_kl, self.schedule),
            Weighted(TaskSFT(), self.lambda_sft),
        )


@dataclass(frozen=True)
class DeltaOnly(Objective):
    """L = L_delta(computed) + norm_penalty * mean ||s B A||², every step (phase 5).

    Sees no teacher weights; the penalty keeps what the probes do not see from growing. The delta
    head is not trained.

    Args:
        norm_penalty: weight of the mean squared Frobenius norm of a module's update.
        lambda_kl: weight of the KL tether on the probes' next tokens.
        delta_loss: distance of deltas.

    Raises:
        ValueError: a negative weight.
    """

    norm_penalty: float = 0.0
    lambda_kl: float = 0.0
    delta_loss: AnyDeltaLoss = field(default_factory=DeltaMSELoss)

    def __post_init__(self) -> None:
        check_weights(norm_penalty=self.norm_penalty, lambda_kl=self.lambda_kl, lambda_delta=1.0)

    def terms(self) -> tuple[Weighted, ...]:
        """See Objective."""
        return (
            Weighted(ComputedDelta(self.delta_loss), 1.0),
            Weighted(NormPenalty(), self.norm_penalty),
            Weighted(ProbeKL(), self.lambda_kl),
        )


@dataclass(frozen=True)
class DeltaGuided(Objective):
    """The delta head every step, the computed delta every `every_n` steps (phase 4.5).

    Args:
        every_n: steps 0, every_n, 2 * every_n, ... run the base model.
        lambda_pred: weight of the head's delta against the teacher's, every step.
        lambda_computed: weight of the computed delta against the teacher's.
        lambda_consistency: weight of the head's delta against the computed one.
        lambda_weight: weight of the weight term, every step.
        lambda_kl: weight of the KL tether on the probes' next tokens.
        lambda_sft: weight of the task loss through the generated adapter, every step.
        schedule: factor on the terms that run the base model on probes; they do not run before
            its start.
        weight_loss: distance of weights: of factors, or of the updates that they make.
        delta_loss: distance of deltas.

    Raises:
        ValueError: every_n below 1, negative weights, or none above 0.
    """

    every_n: int = 4
    lambda_pred: float = 1.0
    lambda_computed: float = 1.0
    lambda_consistency: float = 1.0
    lambda_weight: float = 0.0
    lambda_kl: float = 0.0
    lambda_sft: float = 0.0
    schedule: AnySchedule = field(default_factory=Constant)
    weight_loss: AnyWeightLoss = field(default_factory=WeightLoss)
    delta_loss: AnyDeltaLoss = field(default_factory=DeltaMSELoss)

    def __post_init__(self) -> None:
        if self.every_n < 1:
            raise ValueError(f"every_n: expected at least 1, got {self.every_n}")
        check_weights(
            lambda_pred=self.lambda_pred,
            lambda_computed=self.lambda_computed,
            lambda_consistency=self.lambda_consistency,
            lambda_weight=self.lambda_weight,
            lambda_kl=self.lambda_kl,
            lambda_sft=self.lambda_sft,
        )

    def terms(self) -> tuple[Weighted, ...]:
        """See Objective."""
        sometimes = (self.schedule, self.every_n)
        return (
            Weighted(PredictedDelta(self.delta_loss), self.lambda_pred),
            Weighted(TeacherWeights(self.weight_loss), self.lambda_weight),
            Weighted(ComputedDelta(self.delta_loss), self.lambda_computed, *sometimes),
            Weighted(Consistency(self.delta_loss), self.lambda_consistency, *sometimes),
            Weighted(ProbeKL(), self.lambda_kl, *sometimes),
            Weighted(TaskSFT(), self.lambda_sft),
        )
