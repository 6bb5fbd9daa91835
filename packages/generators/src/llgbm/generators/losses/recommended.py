"""The objective to start from, scaled to the length of a training run."""

from __future__ import annotations

from llgbm.generators.losses.objectives import DeltaGuided
from llgbm.generators.losses.schedules import Ramp

# A computed delta helps once the weights are nearly right and the learning rate is low; earlier
# it disturbs more than it teaches (docs/log.md).
DELTA_FROM = 0.75
# On every fourth step of the last quarter, which leaves twice the steps in the same time; where
# that quarter has fewer than four such steps, on every one.
EVERY_N = 4


def recommended_objective(steps: int) -> DeltaGuided:
    """Weights and delta head all along; computed delta and KL tether in the last quarter.

    Args:
        steps: of the whole training.
    """
    start = min(round(DELTA_FROM * steps), steps - 1)
    return DeltaGuided(
        every_n=EVERY_N if steps - start >= EVERY_N**2 else 1,
        lambda_pred=0.005,
        lambda_computed=0.1,
        lambda_consistency=0.005,
        lambda_weight=1.0,
        lambda_kl=0.1,
        schedule=Ramp(start, steps // 20),
    )
