"""Arms: the adapters that a generated one is compared with (anchors: baselines)."""

from llgbm.generators.evaluation.arms.registry import (
    ARM_WORDS,
    ARMS,
    REGISTRY,
    choose_arms,
    fill_pool,
)

__all__ = ["ARMS", "ARM_WORDS", "REGISTRY", "choose_arms", "fill_pool"]
