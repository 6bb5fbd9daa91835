"""From what was found on each task to the blocks of results.json."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llgbm.deltas.bootstrap import Interval, interval, over_tasks
from llgbm.generators.evaluation.alignment import Point, correlation, pearson, spearman
from llgbm.generators.evaluation.arms.registry import ARMS, REGISTRY
from llgbm.generators.evaluation.result_blocks import (
    Alignment,
    ArmBehaviour,
    ArmParse,
    ArmRatios,
)
from llgbm.generators.evaluation.task_scores import Numbers, TaskScores

ArmOutcomes = dict[str, dict[str, NDArray[np.float64]]]


def arm_outcomes(scores: Sequence[TaskScores], generators: int) -> ArmOutcomes:
    """Arm -> task -> what was right, [e]; [seeds, e] in the arms of several generators.

    The adapters of other arms are averaged: they are no draws of a seed. An arm that some task
    lacks would compare different tasks, and is left out.

    Args:
        scores: of all tasks.
        generators: how many were evaluated.
    """
    found: ArmOutcomes = {}
    for arm in ARMS:
        if not all(arm in item.arms for item in scores):
            continue
        found[arm] = {}
        for item in scores:
            rows = np.array([item.chosen[place] for place in item.arms[arm]])
            right = (rows == np.array(item.gold)).astype(np.float64)
            seeds = REGISTRY[arm].per_generator and generators > 1
            found[arm][item.task] = right if seeds else right.mean(0)
    return found


def behaviour_block(scores: Sequence[TaskScores], seed: int) -> dict[str, ArmBehaviour]:
    """Arm -> cosine and KL with the tasks' teachers on held-out probes, over tasks."""
    found = {}
    for arm in ARMS:
        kl = _by_task(scores, arm, "kl", seed)
        if kl is not None:
            found[arm] = ArmBehaviour(_by_task(scores, arm, "cosine", seed), kl)
    return found


def parse_block(scores: Sequence[TaskScores], seed: int) -> dict[str, ArmParse]:
    """Arm -> share of free answers that begin with a choice, and of these the right ones."""
    scores = [item for item in scores if item.parse_gold]
    found = {}
    for arm in ARMS:
        if not scores or not all(arm in item.arms for item in scores):
            continue
        outcomes, right, parsed = {}, 0, 0
        for item in scores:
            rows = [item.parsed[place] for place in item.arms[arm]]
            table = np.array([[choice is not None for choice in row] for row in rows])
            outcomes[item.task] = table.astype(np.float64).mean(0)
            parsed += int(table.sum())
            right += sum(_right(row, item.parse_gold) for row in rows)
        found[arm] = ArmParse(interval(outcomes, seed), right / parsed if parsed else None)
    return found


def nearest_block(scores: Sequence[TaskScores], seed: int) -> dict[str, ArmRatios]:
    """Arm -> nearest-teacher ratio in ΔW and in deltas, over tasks."""
    found = {}
    for arm in ARMS:
        spaces = {}
        for space in ("delta_w", "delta"):
            values = {i.task: _mean(i.nearest[arm][space]) for i in scores if arm in i.nearest}
            known = {task: value for task, value in values.items() if value is not None}
            spaces[space] = over_tasks(known, seed) if known else None
        if any(spaces.values()):
            found[arm] = ArmRatios(**spaces)
    return found


def alignment_block(scores: Sequence[TaskScores], seed: int) -> Alignment:
    """Delta cosine beside accuracy gain of every distinct adapter with a delta."""
    points = []
    for item in scores:
        right = [np.mean(np.array(row) == np.array(item.gold)) for row in item.chosen]
        base = right[item.arms["base"][0]]
        for place, cosine in enumerate(item.cosine):
            if cosine is not None:
                # The last arm that has it: what retrieval found may be the task's own teacher.
                arm = next(arm for arm in reversed(ARMS) if place in item.arms.get(arm, []))
                points.append(Point(item.task, arm, cosine, float(right[place] - base)))
    return Alignment(
        correlation(points, pearson, seed), correlation(points, spearman, seed), tuple(points)
    )


def _right(row: Sequence[int | None], gold: Sequence[int]) -> int:
    return sum(choice == right for choice, right in zip(row, gold, strict=True))


def _by_task(scores: Sequence[TaskScores], arm: str, quantity: str, seed: int) -> Interval | None:
    """Mean over an arm's adapters on each task, then over tasks; None unless every task has one.

    A retrieval arm that found a task's only teacher has nothing there to be compared with: a
    mean over the tasks where it went wrong would mislead.
    """
    values = {}
    for item in scores:
        numbers: Numbers = getattr(item, quantity)
        value = _mean([numbers[place] for place in item.arms.get(arm, [])])
        if value is None:
            return None
        values[item.task] = value
    return over_tasks(values, seed)


def _mean(numbers: Numbers) -> float | None:
    known = [number for number in numbers if number is not None]
    return sum(known) / len(known) if known else None
