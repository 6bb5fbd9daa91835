"""Losses: named terms, and the objectives that compose them."""

from llgbm.generators.losses.delta import DeltaCosineLoss, DeltaMSELoss, DeltaSumLoss
from llgbm.generators.losses.objectives import DeltaGuided, DeltaOnly, MultiTask, Objective
from llgbm.generators.losses.schedules import Constant, CosineRise, Ramp
from llgbm.generators.losses.step import Step
from llgbm.generators.losses.terms import LossBreakdown, Weighted
from llgbm.generators.losses.token_weights import TokenWeightLoss
from llgbm.generators.losses.weights import DeltaWeightLoss, WeightLoss

__all__ = [
    "Constant",
    "CosineRise",
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
    "Step",
    "TokenWeightLoss",
    "WeightLoss",
    "Weighted",
]
