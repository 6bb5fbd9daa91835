"""Numbers that tell writing an adapter from remembering the mean one (anchors: metrics)."""

from __future__ import annotations

from collections.abc import Mapping

from llgbm.generators.evaluation.bootstrap import Outcomes, interval, paired_difference


def recovery(value: float, floor: float, ceiling: float) -> float | None:
    """(value - floor) / (ceiling - floor), or None where there is nothing to recover."""
    return (value - floor) / (ceiling - floor) if abs(ceiling - floor) > 1e-9 else None


def split_metrics(outcomes: Mapping[str, Outcomes], split: str) -> dict[str, float | None]:
    """Metrics of one split.

    Args:
        outcomes: arm -> task -> one number an example.
        split: prefix of the names.

    Returns:
        teacher_gain: teacher - base.
        recovery_over_base: (generated - base) / (teacher - base).
        oracle_recovery: (generated - mean adapter) / (teacher - mean adapter).
        condition_sensitivity, with _low and _high: generated - generated_shuffled, paired.
    """
    mean = {arm: interval(values).mean for arm, values in outcomes.items()}
    values: dict[str, float | None] = {
        "teacher_gain": mean["teacher"] - mean["base"],
        "recovery_over_base": recovery(mean["generated"], mean["base"], mean["teacher"]),
        "oracle_recovery": recovery(mean["generated"], mean["mean_adapter"], mean["teacher"]),
        "condition_sensitivity": None,
        "condition_sensitivity_low": None,
        "condition_sensitivity_high": None,
    }
    if "generated_shuffled" in outcomes:  # tasks of one family have no wrong condition
        paired = paired_difference(outcomes["generated"], outcomes["generated_shuffled"])
        values["condition_sensitivity"] = paired.mean
        values["condition_sensitivity_low"] = paired.low
        values["condition_sensitivity_high"] = paired.high
    return {f"{split}.{name}": value for name, value in values.items()}
