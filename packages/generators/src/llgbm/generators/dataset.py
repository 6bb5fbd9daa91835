"""TeacherDataset: teacher weights, condition and teacher delta together (seed 001, phase 2)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import (
    Condition,
    ConditionKind,
    answered,
    condition_from_answers,
    condition_from_prompts,
)


@dataclass(frozen=True)
class TeacherPrompts:
    """What conditions of one teacher are drawn from: its own training shard."""

    prompts: tuple[str, ...]
    answers: tuple[str, ...]
    descriptions: tuple[str, ...]


@dataclass(frozen=True)
class TeacherBatch:
    """b items of a step.

    Attributes:
        indices: teacher of each item.
        positions: place of each item among those of all steps; seeds what is drawn for it alone.
        weights: its factors, n = b.
        conditions: b conditions.
        deltas: [b, ...] float32.
    """

    indices: tuple[int, ...]
    positions: tuple[int, ...]
    weights: LoRAWeights
    conditions: tuple[Condition, ...]
    deltas: Tensor


def read_prompts(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read the prompts and answers of an adapter folder's prompts.json.

    Raises:
        RunError: missing, malformed, empty, an empty prompt, or lists of unequal length.
    """
    file = path / "prompts.json"
    if not file.exists():
        raise RunError(f"{file}: not found")
    content = read_json(file, RunError)
    lists = []
    for key in ("prompts", "answers"):
        values = content.get(key)
        if not isinstance(values, list):
            raise RunError(mismatch(file, key, "a list of strings", type(values).__name__))
        for place, value in enumerate(values):
            if not isinstance(value, str):
                raise RunError(mismatch(file, f"{key}.{place}", "a string", repr(value)))
        lists.append(tuple(values))
    prompts, answers = lists
    if not prompts or len(prompts) != len(answers):
        raise RunError(
            mismatch(file, "prompts", f"{len(answers)} as answers, at least 1", len(prompts))
        )
    for place, prompt in enumerate(prompts):
        if not prompt.strip():
            raise RunError(mismatch(file, f"prompts.{place}", "a text", repr(prompt)))
    return prompts, answers


def draw_condition(
    source: TeacherPrompts, kind: ConditionKind, size: int, rng: random.Random
) -> Condition:
    """Draw one condition of `kind` with at most `size` texts."""
    if kind == "description":
        return Condition((rng.choice(source.descriptions),), kind)
    size = min(size, len(source.prompts))
    chosen = rng.sample(range(len(source.prompts)), size)
    prompts = [source.prompts[index] for index in chosen]
    if kind == "prompts":
        return condition_from_prompts(prompts)
    return condition_from_answers(prompts, [source.answers[index] for index in chosen])


class TeacherDataset:
    """Batches of teachers with conditions drawn anew each step.

    A batch is a pure function of (seed, step): a resumed run sees the same data with no
    saved position, and every process of a distributed run can take its own slice.

    Args:
        weights: N teachers.
        prompts: per teacher.
        deltas: [N, ...] float32.
        kinds: kinds of condition and their shares.
        condition_texts: smallest and largest number of texts in a condition.
        batch_size: items of a step, over all processes.
        seed: of the draws.

    Raises:
        ValueError: lengths that differ.
        RunError: no kind of condition that every teacher has texts for.
    """

    def __init__(
        self,
        weights: LoRAWeights,
        prompts: Sequence[TeacherPrompts],
        deltas: Tensor,
        kinds: Mapping[ConditionKind, float],
        condition_texts: tuple[int, int],
        batch_size: int,
        seed: int,
    ) -> None:
        if not weights.n == len(prompts) == deltas.shape[0]:
            raise ValueError(
                f"TeacherDataset: expected as many prompts and deltas as the {weights.n} teachers, "
                f"got {len(prompts)} and {deltas.shape[0]}"
            )
        self.weights, self.prompts, self.deltas = weights, list(prompts), deltas
        self.kinds = {kind: share for kind, share in kinds.items() if share > 0}
        if not self.kinds:
            raise RunError("conditions: expected at least one kind with a share above 0, got none")
        if set(self.kinds) == {"description"} and not all(s.descriptions for s in prompts):
            raise RunError(
                "conditions: description: expected descriptions of every task, got one without: "
                "add `descriptions` to its .json file, or give another kind a share"
            )
        self.condition_texts = condition_texts
        self.batch_size, self.seed = batch_size, seed

    def __len__(self) -> int:
        return self.weights.n

    def kinds_of(self, teacher: int) -> dict[ConditionKind, float]:
        """Kinds of condition that a teacher has texts for, with their shares."""
        if self.prompts[teacher].descriptions:
            return self.kinds
        return {kind: share for kind, share in self.kinds.items() if kind != "description"}

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> TeacherBatch:
        """Return the items of one step that belong to process `rank`."""
        indices, positions, conditions = [], [], []
        for item in range(rank, self.batch_size, world_size):
            position = step * self.batch_size + item
            epoch, place = divmod(position, len(self))
            order = list(range(len(self)))
            random.Random(f"{self.seed}:order:{epoch}").shuffle(order)
            rng = random.Random(f"{self.seed}:condition:{position}")
            kinds = self.kinds_of(order[place])
            kind = rng.choices(list(kinds), list(kinds.values()))[0]
            size = rng.randint(*self.condition_texts)
            indices.append(order[place])
            positions.append(position)
            conditions.append(draw_condition(self.prompts[order[place]], kind, size, rng))
        return TeacherBatch(
            tuple(indices),
            tuple(positions),
            self.weights.select(indices),
            tuple(conditions),
            self.deltas[torch.tensor(indices)],
        )

    def texts(self) -> list[str]:
        """Every text a condition can hold, for embedding them all beforehand."""
        texts: list[str] = []
        for source in self.prompts:
            if "prompts" in self.kinds:
                texts += source.prompts
            if "prompts_with_answers" in self.kinds:
                texts += [
                    answered(*pair) for pair in zip(source.prompts, source.answers, strict=True)
                ]
            if "description" in self.kinds:
                texts += source.descriptions
        return list(dict.fromkeys(texts))
