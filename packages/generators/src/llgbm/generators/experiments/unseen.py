"""Which validation examples experiments ask about: not those that trainings were chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llgbm.deltas.task import Example, Task

CONDITION_PROMPTS = 8


@dataclass(frozen=True)
class Unseen:
    """Validation examples of a task, behind the first block, which best steps are chosen by.

    Attributes:
        condition: for conditions.
        scored: the others.
    """

    condition: Sequence[Example]
    scored: Sequence[Example]


def unseen_examples(task: Task, examples: int) -> Unseen:
    """Split a task's validation examples.

    Args:
        task: with at least three of them.
        examples: scored at most.
    """
    size = min(CONDITION_PROMPTS, len(task.validation) // 3)
    return Unseen(task.validation[size : 2 * size], task.validation[2 * size : 2 * size + examples])
