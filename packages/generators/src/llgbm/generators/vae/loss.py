"""VAELoRALoss: reconstruction, rate, and behaviour (seed 000, "Loss function")."""

from __future__ import annotations

from dataclasses import dataclass, field

from llgbm.deltas.errors import require_at_least
from llgbm.generators.losses.computed import ComputedDelta
from llgbm.generators.losses.delta import DeltaMSELoss
from llgbm.generators.losses.halfway import Halfway
from llgbm.generators.losses.head import Consistency, PredictedDelta
from llgbm.generators.losses.latent import BottleneckLosses, Rate
from llgbm.generators.losses.objectives import AnyDeltaLoss, AnyWeightLoss, Objective
from llgbm.generators.losses.schedules import Constant, CosineRise, Cyclical, Ramp
from llgbm.generators.losses.teacher_weights import TeacherWeights
from llgbm.generators.losses.terms import Weighted, check_weights
from llgbm.generators.losses.update_cosine import UpdateCosineLoss
from llgbm.generators.losses.weights import DeltaWeightLoss

BetaSchedule = Constant | Ramp | CosineRise | Cyclical


@dataclass(frozen=True)
class VAELoRALoss(Objective):
    """lambda_recon L_recon + beta(t) KL + bottleneck + deltas.

    Args:
        lambda_recon: weight of the reconstruction.
        recon: distance of the rebuilt adapter: of updates by the Gram identity (DeltaWeightLoss),
            their cosine (UpdateCosineLoss), of factors that share a canonical form (WeightLoss).
        lambda_factors: weight of a distance of factors beside it; both for teachers that share A.
        beta_max: weight of the rate, in units of a reconstruction's relative error per nat.
        beta: factor on it by step.
        free_bits: nats that each number of the latent may cost for nothing.
        lambda_bottleneck: weight of commitment and of the prior over codes.
        lambda_delta: weight of the delta decoder's delta against the teacher's.
        lambda_computed: weight of the delta that the rebuilt adapter really makes; runs the base.
        lambda_consistency: weight of the delta decoder's delta against that one; runs the base.
        lambda_halfway: weight of how far the way between two latents is from the straight one in
            updates; writes every adapter of a step twice.
        every_n: steps 0, every_n, ... run the base.
        delta_loss: distance of deltas.
        delta_schedule: factor on the terms that run the base.

    Raises:
        ValueError: negative weights, or none above 0.
    """

    lambda_recon: float = 1.0
    recon: AnyWeightLoss | UpdateCosineLoss = field(default_factory=DeltaWeightLoss)
    lambda_factors: float = 0.0
    beta_max: float = 1e-4
    beta: BetaSchedule = field(default_factory=Constant)
    free_bits: float = 0.02
    lambda_bottleneck: float = 0.1
    lambda_delta: float = 0.01
    lambda_computed: float = 0.0
    lambda_consistency: float = 0.0
    lambda_halfway: float = 0.0
    every_n: int = 4
    delta_loss: AnyDeltaLoss = field(default_factory=DeltaMSELoss)
    delta_schedule: Constant | Ramp | CosineRise = field(default_factory=Constant)

    def __post_init__(self) -> None:
        if self.every_n < 1:
            raise ValueError(f"every_n: expected at least 1, got {self.every_n}")
        require_at_least(0, free_bits=self.free_bits)
        check_weights(
            lambda_recon=self.lambda_recon,
            lambda_factors=self.lambda_factors,
            beta_max=self.beta_max,
            lambda_bottleneck=self.lambda_bottleneck,
            lambda_delta=self.lambda_delta,
            lambda_computed=self.lambda_computed,
            lambda_consistency=self.lambda_consistency,
            lambda_halfway=self.lambda_halfway,
        )

    def terms(self) -> tuple[Weighted, ...]:
        """See Objective."""
        sometimes = (self.delta_schedule, self.every_n)
        return (
            Weighted(TeacherWeights(self.recon), self.lambda_recon),
            Weighted(Rate(self.free_bits), self.beta_max, self.beta),
            Weighted(BottleneckLosses(), self.lambda_bottleneck),
            Weighted(PredictedDelta(self.delta_loss), self.lambda_delta),
            Weighted(ComputedDelta(self.delta_loss), self.lambda_computed, *sometimes),
            Weighted(Consistency(self.delta_loss), self.lambda_consistency, *sometimes),
            Weighted(Halfway(), self.lambda_halfway),
        )


def recommended_vae_loss(steps: int) -> VAELoRALoss:
    """The loss to start from: beta rises over the first quarter of so many steps."""
    return VAELoRALoss(beta=Ramp(0, steps // 4))
