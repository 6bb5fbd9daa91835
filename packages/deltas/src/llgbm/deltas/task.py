"""Task: examples with choices, split into train, validation and test."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

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
