"""Everything that is measured on one task, for each distinct adapter of its pool."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from llgbm.deltas.by_layer import delta_cosine
from llgbm.deltas.spec import device_of
from llgbm.generators.evaluation.arms.context import ArmContext
from llgbm.generators.evaluation.arms.registry import fill_pool
from llgbm.generators.evaluation.greedy import greedy_answers
from llgbm.generators.evaluation.multiple_choice import score_choices
from llgbm.generators.evaluation.nearest_teacher import NearestTeacher
from llgbm.generators.evaluation.parse_rate import answerable, parsed_choice
from llgbm.generators.evaluation.pool import AdapterPool
from llgbm.generators.evaluation.probe_readings import ProbeReader
from llgbm.generators.evaluation.tasks import EvaluatedTask, with_prefix

# Arms whose adapters are compared with the training teachers.
COMPARED = ("mean_adapter", "generated", "generated_description", "teacher")
Numbers = list[float | None]


@dataclass(frozen=True)
class TaskScores:
    """What was found on one task; places are those of the pool.

    Attributes:
        task: its name.
        split: its split.
        arms: arm -> places.
        gold: right choice of each example.
        chosen: by place, the choice of each example.
        cosine: by place, mean cosine of the delta on held-out probes with the task's teachers;
            None for one without a delta. An adapter is never compared with itself.
        kl: by place, mean KL(teacher || adapter) at every held-out probe token, nats.
        nearest: arm -> `delta_w` and `delta` -> nearest-teacher ratio of each adapter.
        parse_gold: right choice of each example that was answered freely.
        parsed: by place, the choice each answer begins with, or None.
    """

    task: str
    split: str
    arms: dict[str, list[int]]
    gold: list[int]
    chosen: list[list[int]]
    cosine: Numbers
    kl: Numbers
    nearest: dict[str, dict[str, Numbers]]
    parse_gold: list[int]
    parsed: list[list[int | None]]

    def records(self) -> list[dict[str, Any]]:
        """One record an example, for scores.jsonl."""
        return [
            {
                "task": self.task,
                "split": self.split,
                "example": example,
                "gold": gold,
                "chosen": {
                    arm: [self.chosen[place][example] for place in places]
                    for arm, places in self.arms.items()
                },
            }
            for example, gold in enumerate(self.gold)
        ]


class TaskScorer:
    """Scores the chosen arms of one task after the other.

    Args:
        model: frozen base.
        tokenizer: of the base.
        context: makes the adapters.
        arms: their names.
        held_out: reads adapters on probes that training did not use.
        trained: reads them on the training probes.
        parse_examples: queries answered freely on each task.
        parse_tokens: longest free answer.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        context: ArmContext,
        arms: Sequence[str],
        held_out: ProbeReader,
        trained: ProbeReader,
        parse_examples: int,
        parse_tokens: int,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.context, self.arms = context, tuple(arms)
        self.held_out, self.trained = held_out, trained
        self.parse_examples, self.parse_tokens = parse_examples, parse_tokens
        self.nearest = NearestTeacher(context.train_on_device, context.deltas)

    def score(self, index: int, progress: tqdm | None = None) -> TaskScores:
        """Score task number `index`."""
        item = self.context.tasks[index]
        pool = fill_pool(self.context, self.arms, index)
        cosine, kl = self._behaviour(pool, index)
        answered, parsed = self._parse(item, pool)
        return TaskScores(
            item.task.name,
            item.split,
            pool.arms,
            [example.gold for example in item.examples],
            self._choose(item, pool, progress),
            cosine,
            kl,
            self._nearest(pool),
            answered,
            parsed,
        )

    def _choose(
        self, item: EvaluatedTask, pool: AdapterPool, progress: tqdm | None
    ) -> list[list[int]]:
        """The likeliest choice of every example under every adapter."""
        chosen: list[list[int]] = [[] for _ in pool.keys]
        for (_, prefix), places in pool.groups().items():
            examples = with_prefix(item.examples, prefix)
            weights = pool.batch(places).to(device_of(self.model))
            # The first group holds the base and most adapters: it alone moves the bar.
            bar = progress if 0 in places else None
            scores = score_choices(self.model, self.tokenizer, examples, weights, progress=bar)
            for place, row in zip(places, scores.predictions().tolist(), strict=True):
                chosen[place] = row
        return chosen

    def _behaviour(self, pool: AdapterPool, index: int) -> tuple[Numbers, Numbers]:
        """Cosine and KL of every adapter with the task's teachers, on held-out probes."""
        entries = self.context.teacher_entries(index)
        teachers = self.held_out.read(
            self.context.manifest.load(self.context.run.checkpoints, entries)
        )
        cosine: Numbers = [None] * len(pool.keys)
        kl: Numbers = [None] * len(pool.keys)
        for (_, prefix), places in pool.groups().items():
            if prefix:  # its text is in the query, so that probes do not show it
                continue
            readings = self.held_out.read(pool.batch(places))
            divergences = self.held_out.kl(teachers.hidden, readings.hidden).cpu()
            for row, place in enumerate(places):
                others = [
                    number
                    for number, entry in enumerate(entries)
                    if pool.keys[place] != f"teacher:{entry.id}"
                ]
                if not others:
                    continue
                kl[place] = float(divergences[row, others].mean())
                delta = readings.deltas[row]
                # Not its delta: rounding may move that of an adapter that changes nothing.
                if bool(pool.weights[place].delta_norms().any()):
                    target = teachers.deltas[others]
                    cosine[place] = float(delta_cosine(delta.expand_as(target), target).mean())
        return cosine, kl

    @torch.no_grad()
    def _nearest(self, pool: AdapterPool) -> dict[str, dict[str, Numbers]]:
        """Nearest-teacher ratios of the arms that may have copied."""
        own = {f"teacher:{e.id}": place for place, e in enumerate(self.context.train_entries)}
        found: dict[str, dict[str, Numbers]] = {}
        for arm in COMPARED:
            places = pool.arms.get(arm, [])
            if not places:
                continue
            weights = pool.batch(places).to(device_of(self.model))
            deltas: Tensor = self.trained.behaviour(weights)
            ratios = [
                self.nearest.ratios(weights.select([row]), deltas[row], own.get(pool.keys[place]))
                for row, place in enumerate(places)
            ]
            found[arm] = {space: [r[space] for r in ratios] for space in ("delta_w", "delta")}
        return found

    def _parse(
        self, item: EvaluatedTask, pool: AdapterPool
    ) -> tuple[list[int], list[list[int | None]]]:
        """Free answers of every adapter to a few queries, as choices."""
        parsed: list[list[int | None]] = [[] for _ in pool.keys]
        examples = answerable(self.tokenizer, item.examples, self.parse_examples, self.parse_tokens)
        if not examples:
            return [], parsed
        for (_, prefix), places in pool.groups().items():
            answers = greedy_answers(
                self.model,
                self.tokenizer,
                [example.query for example in with_prefix(examples, prefix)],
                pool.batch(places),
                self.parse_tokens,
            )
            for place, row in zip(places, answers, strict=True):
                parsed[place] = [
                    parsed_choice(answer, example.choices)
                    for answer, example in zip(row, examples, strict=True)
                ]
        return [example.gold for example in examples], parsed
