"""General text, that a task's training should leave a model as it was on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from llgbm.deltas.errors import TaskError
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.task import Example, Task
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.greedy import greedy_answers

CONTINUED_TOKENS, BEGINNING_WORDS = 16, 24


@dataclass(frozen=True)
class GeneralTexts:
    """Beginnings of a task's queries, as text that has nothing to do with another task.

    Attributes:
        replayed: that the base continues, for runs to train on.
        measured: that retention is read off while anything is chosen.
        tested: that it is read off at the end.
    """

    replayed: tuple[str, ...]
    measured: ProbeSet
    tested: ProbeSet

    @classmethod
    def of(cls, task: Task, replayed: int, measured: int, words: int) -> GeneralTexts:
        """Take texts of each split's own queries.

        Raises:
            TaskError: fewer different texts than asked for.
        """
        parts = []
        for split, count in (("train", replayed), ("validation", measured), ("test", measured)):
            examples: Sequence[Example] = getattr(task, split)
            longest = BEGINNING_WORDS if split == "train" else words
            texts = dict.fromkeys(" ".join(e.query.split()[:longest]) for e in examples)
            if len(texts) < count:
                raise TaskError(
                    f"{task.name}: {split} queries: expected at least {count} that differ, as "
                    f"general text, got {len(texts)}"
                )
            parts.append(tuple(texts)[:count])
        return cls(parts[0], ProbeSet(parts[1]), ProbeSet(parts[2]))

    def continued(self, model: nn.Module, tokenizer: Any, spec: LoRASpec) -> tuple[Example, ...]:
        """The replayed texts with what the bare base writes next; those where it stops are out."""
        written = greedy_answers(
            model, tokenizer, self.replayed, LoRAWeights.zeros(spec), CONTINUED_TOKENS
        )[0]
        return tuple(
            Example(text, (f" {answer}",), 0)
            for text, answer in zip(self.replayed, written, strict=True)
            if answer
        )
