"""Shards: the examples one teacher sees, and in which order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from llgbm.deltas.errors import TaskError
from llgbm.deltas.packing import TokenTree
from llgbm.deltas.task import Example, Task
from llgbm.deltas.tokenizers import cut_left

# Whose families a teacher belongs to: those that generators are trained on, those that they are
# chosen by, those that they are tested on.
Split = Literal["train", "validation", "test"]
# What teachers of one task share: nothing, or all examples, which each then sees in an order of its
# own.
ShardData = Literal["disjoint", "shared"]


@dataclass(frozen=True)
class Shard:
    """The training examples of one teacher.

    Attributes:
        id: adapter id, `<task>_<index>`.
        task: task name.
        family: task family; evaluation splits by it.
        split: that of the family.
        examples: at least one.
    """

    id: str
    task: str
    family: str
    split: Split
    examples: tuple[Example, ...]

    def batch(self, step: int, size: int, seed: int) -> list[Example]:
        """Return the examples of one step: a pure function of its arguments.

        Every epoch visits all examples once in an order of its own, so that a resumed run
        needs no saved position.
        """
        n = len(self.examples)
        batch = []
        for position in range(step * size, (step + 1) * size):
            epoch, index = divmod(position, n)
            batch.append(self.examples[_epoch_order(n, f"{seed}:{self.id}:{epoch}")[index]])
        return batch


@lru_cache(maxsize=256)
def _epoch_order(n: int, key: str) -> tuple[int, ...]:
    order = list(range(n))
    random.Random(key).shuffle(order)
    return tuple(order)


def make_shards(
    task: Task, teachers: int, split: Split, seed: int, data: ShardData = "disjoint"
) -> list[Shard]:
    """Give each of `teachers` teachers of `task` its training examples.

    Args:
        task: with training examples.
        teachers: how many shards.
        split: of the task's family.
        seed: of the shuffle; the order within a shard is `Shard.batch`'s.
        data: shards that share no example, or all examples in each.

    Raises:
        TaskError: fewer examples than teachers.
    """
    examples = list(task.train)
    if len(examples) < teachers:
        raise TaskError(
            f"{task.name}: training examples: expected at least {teachers}, one a teacher, "
            f"got {len(examples)}"
        )
    random.Random(f"{seed}:{task.name}:shards").shuffle(examples)
    return [
        Shard(
            f"{task.name}_{index:03d}",
            task.name,
            task.family,
            split,
            tuple(examples[index::teachers] if data == "disjoint" else examples),
        )
        for index in range(teachers)
    ]


def answered(tokenizer: Any, examples: Sequence[Example], max_tokens: int) -> list[TokenTree]:
    """Tokenize each query as a trunk and its gold choice as the one branch.

    A query that is too long loses its beginning: the question stands at its end.
    """
    trees = []
    for example in examples:
        answer = tokenizer(example.choices[example.gold], add_special_tokens=False)["input_ids"]
        answer = answer[: max_tokens // 2]
        query = tokenizer(example.query)["input_ids"]
        trunk = cut_left(query, max_tokens - len(answer), tokenizer)
        trees.append(TokenTree(trunk, (tuple(answer),)))
    return trees
