"""Losses: named terms on weights and deltas, and the objectives that compose them."""

from llgbm.generators.losses.delta import DeltaCosineLoss, DeltaMSELoss, DeltaSumLoss
from llgbm.generators.losses.objectives import (
    DeltaGuided,
    DeltaOnly,
    LossBreakdown,
    MultiTask,
    Objective,
    Ramp,
)
from llgbm.generators.losses.weights import DeltaWeightLoss, WeightLoss

__all__ = [
    "DeltaCosineLoss",
    "DeltaGuided",
    "DeltaMSELoss",
    "DeltaOnly",
    "DeltaSumLoss",
    "DeltaWeightLoss",
    "LossBreakdown",
    "MultiTask",
    "Objective",
    "Ramp",
    "WeightLoss",
]
