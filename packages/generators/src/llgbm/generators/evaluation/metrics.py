"""Numbers that tell writing an adapter from remembering the mean one (anchors: metrics)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from llgbm.deltas.bootstrap import (
    Interval,
    Outcomes,
    interval,
    paired_difference,
)


def recovery(value: float, floor: float, ceiling: float) -> float | None:
    """(value - floor) / (ceiling - floor), or None where there is nothing to recover."""
    return (value - floor) / (ceiling - floor) if abs(ceiling - floor) > 1e-9 else None


def split_metrics(outcomes: Mapping[str, Outcomes], split: str) -> dict[str, float | None]:
    """Metrics of one split.

    Args:
        outcomes: arm -> task -> one number an example, [e] or [seeds, e].
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


def seed_metrics(
    outcomes: Mapping[str, Outcomes], split: str, generators: Sequence[str]
) -> dict[str, float | None]:
    """Accuracy, oracle recovery and condition sensitivity of each generator by itself.

    Args:
        outcomes: arm -> task -> [seeds, e] in the arms of generators, [e] in others.
        split: prefix of the names.
        generators: names, in the order of the seeds.
    """
    found: dict[str, float | None] = {}
    for place, name in enumerate(generators):
        alone = {
            arm: {
                task: table[place] if table.ndim == 2 else table
                for task, table in ((t, np.asarray(v)) for t, v in values.items())
            }
            for arm, values in outcomes.items()
        }
        metrics = split_metrics(alone, split)
        found[f"{split}.{name}.accuracy"] = interval(alone["generated"]).mean
        for metric in ("oracle_recovery", "condition_sensitivity"):
            found[f"{split}.{name}.{metric}"] = metrics[f"{split}.{metric}"]
    return found


def differences(outcomes: Mapping[str, Outcomes], seed: int = 0) -> dict[str, Interval]:
    """Paired difference, generated - arm, for every other arm.

    Args:
        outcomes: arm -> task -> one number an example, [e] or [seeds, e].
        seed: of the resampling.
    """
    return {
        arm: paired_difference(outcomes["generated"], values, seed)
        for arm, values in outcomes.items()
        if arm != "generated"
    }
