"""What is evaluated: a run's tasks, each with its split, its condition and unseen examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from llgbm.deltas.errors import TaskError
from llgbm.deltas.task import Example, Task
from llgbm.generators.conditions import Condition, condition_from_prompts
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.teachers.shards import Split
from llgbm.generators.training.inputs import load_run_task

# Splits of families as results.json names them.
SPLIT_NAMES: Mapping[Split, str] = MappingProxyType(
    {"train": "seen", "validation": "validation_family", "test": "held_out_family"}
)


@dataclass(frozen=True)
class EvaluatedTask:
    """A task with the prompts that make its condition and the examples that are scored.

    Both come from the test split, which no teacher and no generator has seen, and they share
    no example.
    """

    task: Task
    split: str
    condition: Condition
    examples: tuple[Example, ...]

    @classmethod
    def of(cls, task: Task, split: str, prompts: int, examples: int) -> EvaluatedTask:
        """Take the first test queries as the condition, the next ones to score.

        Raises:
            TaskError: an example without choices, or fewer than two.
        """
        task.require_choices()
        if len(task.test) < 2:
            raise TaskError(
                f"{task.name}: test examples: expected at least 2, one for the condition and one "
                f"to score, got {len(task.test)}"
            )
        prompts = min(prompts, len(task.test) // 2)
        return cls(
            task,
            split,
            condition_from_prompts([example.query for example in task.test[:prompts]]),
            task.test[prompts : prompts + examples],
        )

    @property
    def description(self) -> str:
        """The last description, which training keeps back where there are enough; may be empty."""
        return self.task.descriptions[-1] if self.task.descriptions else ""


def split_of_tasks(manifest: Manifest) -> dict[str, str]:
    """Task -> its split in results.json, in the manifest's order."""
    return {entry.task: SPLIT_NAMES[entry.split] for entry in manifest.adapters}


def evaluated_tasks(manifest: Manifest, prompts: int, examples: int) -> list[EvaluatedTask]:
    """Load every task of a run.

    Args:
        manifest: of the run.
        prompts: test queries that make a task's condition.
        examples: test examples scored of each task.

    Raises:
        TaskError: a task that cannot be loaded, or an example without choices.
    """
    return [
        EvaluatedTask.of(load_run_task(manifest, name), split, prompts, examples)
        for name, split in split_of_tasks(manifest).items()
    ]


def with_prefix(examples: Sequence[Example], prefix: str) -> list[Example]:
    """Put `prefix` and an empty line before every query."""
    if not prefix:
        return list(examples)
    return [Example(f"{prefix}\n\n{e.query}", e.choices, e.gold) for e in examples]
