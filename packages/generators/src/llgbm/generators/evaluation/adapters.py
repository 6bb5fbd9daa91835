"""The adapters to be scored on each task, arm by arm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from llgbm.deltas.task import Example, Task
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import (
    Condition,
    condition_from_description,
    condition_from_prompts,
    embed_conditions,
)
from llgbm.generators.dataset import read_prompts
from llgbm.generators.evaluation.arms import mean_adapter, mismatched, nearest, random_matched
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder


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
    def of(cls, task: Task, held_out: bool, prompts: int, examples: int) -> EvaluatedTask:
        """Take the first test queries as the condition, the next ones to score.

        Raises:
            TaskError: an example without choices.
        """
        task.require_choices()
        prompts = min(prompts, len(task.test) // 2)
        return cls(
            task,
            "held_out_family" if held_out else "seen",
            condition_from_prompts([example.query for example in task.test[:prompts]]),
            task.test[prompts : prompts + examples],
        )


@dataclass
class AdapterPool:
    """Distinct adapters of one task, and which of them each arm averages over."""

    weights: list[LoRAWeights] = field(default_factory=list)
    arms: dict[str, list[int]] = field(default_factory=dict)

    def add(self, arm: str, weights: LoRAWeights) -> None:
        """Give `arm` one more adapter (n = 1)."""
        self.arms.setdefault(arm, []).append(len(self.weights))
        self.weights.append(weights)

    def share(self, arm: str, place: int) -> None:
        """Let `arm` use the adapter at `place` too: it is scored once."""
        self.arms.setdefault(arm, []).append(place)


class ArmAdapters:
    """Makes the adapters of all arms for a run's tasks.

    Args:
        run: its folder.
        manifest: its teachers.
        generator: a trained one.
        tasks: what is evaluated.
        deltas: [N, ...] of the teachers that are not held out, in the manifest's order.
        seed: of the random adapter and the wrong conditions.
    """

    def __init__(
        self,
        run: RunFolder,
        manifest: Manifest,
        generator: LoRAGenerator,
        tasks: Sequence[EvaluatedTask],
        deltas: Tensor,
        seed: int,
    ) -> None:
        self.run, self.manifest, self.tasks = run, manifest, list(tasks)
        self.train_entries = manifest.select(held_out=False)
        self.train = manifest.load(run.checkpoints, self.train_entries)
        self.deltas = deltas
        encoder = PretrainedTextEncoder(generator.config.text_encoder)
        cache = EmbeddingCache(run.embeddings)
        self.conditions = [item.condition for item in tasks]
        self.descriptions = [
            condition_from_description(item.task.descriptions[-1])
            for item in tasks
            if item.task.descriptions
        ]
        with torch.no_grad():
            batch = embed_conditions(self.conditions, encoder, cache)
            output = generator.eval()(batch)
            self.generated, self.predicted_deltas = output.weights, output.delta
            self.from_description: LoRAWeights | None = None
            if len(self.descriptions) == len(self.tasks):
                described = embed_conditions(self.descriptions, encoder, cache)
                self.from_description = generator(described).weights
        self.texts = _means(batch.embeddings, batch.mask)
        prompts = [
            condition_from_prompts(read_prompts(run.checkpoints / entry.path)[0])
            for entry in self.train_entries
        ]
        teachers = embed_conditions(prompts, encoder, cache)
        self.teacher_texts = _means(teachers.embeddings, teachers.mask)
        families = {item.task.name: item.task.family for item in tasks}
        # With one family there is no wrong condition, and the arm is left out.
        several = len(set(families.values())) > 1
        self.wrong = mismatched(families, list(families), seed) if several else {}
        self.random = random_matched(self.train, torch.Generator().manual_seed(seed))
        self.mean = mean_adapter(self.train)

    def pool(self, index: int) -> AdapterPool:
        """Return the adapters of task number `index`."""
        item = self.tasks[index]
        pool = AdapterPool()
        pool.add("base", LoRAWeights.zeros(self.train.spec))
        pool.add("random", self.random)
        pool.add("mean_adapter", self.mean)
        pool.add("generated", self.generated.select([index]))
        if self.from_description is not None:
            pool.add("generated_description", self.from_description.select([index]))
        names = [other.task.name for other in self.tasks]
        if self.wrong:
            wrong = names.index(self.wrong[item.task.name])
            pool.add("generated_shuffled", self.generated.select([wrong]))
        places: dict[str, int] = {}
        for entry in self.manifest.adapters:
            if entry.task == item.task.name:
                places[entry.id] = len(pool.weights)
                pool.add("teacher", self.manifest.load(self.run.checkpoints, [entry]))
        for arm, query, candidates in (
            ("nearest_text", self.texts[index], self.teacher_texts),
            ("nearest_delta", self.predicted_deltas[index], self.deltas),
        ):
            found = nearest(query, candidates)
            name = self.train_entries[found].id
            if name in places:
                pool.share(arm, places[name])
            else:
                places[name] = len(pool.weights)
                pool.add(arm, self.train.select([found]))
        return pool


def _means(embeddings: Tensor, mask: Tensor) -> Tensor:
    """Mean embedding of each condition, [b, dim]."""
    return (embeddings * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
