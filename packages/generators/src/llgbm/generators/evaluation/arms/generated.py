"""Arms that a generator writes: from prompts, from a sentence, from a wrong condition."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import partial

from llgbm.generators.evaluation.arms.context import ArmContext
from llgbm.generators.evaluation.pool import AdapterPool

# Its subjects are families of their own, and yet the condition of one suits another.
ALIKE = "mmlu_"


def mismatched(families: Mapping[str, str], tasks: Sequence[str], seed: int) -> dict[str, str]:
    """Give each task the condition of a task of another family, evenly where possible.

    Subjects of MMLU get that of another benchmark where there is one.

    Args:
        families: task -> family.
        tasks: tasks to give a condition to; also the pool that it is taken from.
        seed: of the draw.

    Raises:
        ValueError: all tasks are of one family.
    """
    if len({families[task] for task in tasks}) < 2:
        raise ValueError("mismatched: expected tasks of at least two families")
    kin = {t: ALIKE if families[t].startswith(ALIKE) else families[t] for t in tasks}
    if len(set(kin.values())) > 1:
        families = kin
    rng = random.Random(f"{seed}:mismatched")
    pool = list(tasks)
    for _ in range(1000):
        rng.shuffle(pool)
        if all(families[a] != families[b] for a, b in zip(tasks, pool, strict=True)):
            return dict(zip(tasks, pool, strict=True))
    # One family holds most tasks: no permutation keeps it apart from itself.
    return {
        task: rng.choice([other for other in tasks if families[other] != families[task]])
        for task in tasks
    }


def generated(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """Written from the task's test prompts, by each generator."""
    for output in context.outputs:
        pool.add(
            "generated",
            f"generated:{output.name}:{index}",
            partial(output.weights.select, [index]),
        )


def generated_description(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """Written from one sentence; left out where a task has none."""
    for output in context.outputs:
        if output.described is not None:
            pool.add(
                "generated_description",
                f"described:{output.name}:{index}",
                partial(output.described.select, [index]),
            )


def generated_shuffled(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """Written from the prompts of a task of another family; left out where there is no other."""
    names = [item.task.name for item in context.tasks]
    families = {item.task.name: item.task.family for item in context.tasks}
    if len(set(families.values())) < 2:
        return
    wrong = names.index(mismatched(families, names, context.seed)[names[index]])
    for output in context.outputs:
        pool.add(
            "generated_shuffled",
            f"generated:{output.name}:{wrong}",
            partial(output.weights.select, [wrong]),
        )
