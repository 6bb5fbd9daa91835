"""ArmContext: what arms are made from, computed when the first arm asks for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.delta import compute_delta
from llgbm.deltas.errors import require_at_least
from llgbm.deltas.merging import require_density
from llgbm.deltas.probes import create_generic_probes
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import (
    Condition,
    condition_from_description,
    condition_from_prompts,
    embed_conditions,
)
from llgbm.generators.dataset import read_prompts
from llgbm.generators.evaluation.rank_one import match_mean_delta
from llgbm.generators.evaluation.tasks import EvaluatedTask
from llgbm.generators.generate import write_adapters
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.retriever.predictor import DeltaPredictor
from llgbm.generators.runs import FINISHED, RunFolder
from llgbm.generators.teachers.manifest import Manifest, TeacherEntry
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.probes import trained_cache, trained_probes


@dataclass(frozen=True)
class ArmSettings:
    """Sizes of arms.

    Args:
        neighbours: teachers that a retrieval arm merges.
        density: share of entries that TIES and DARE keep.
        noise: norm of the noise in `teacher_noise`, over the teacher's own, module by module.
        multi_task_factor: optimiser steps of the multi-task adapter, in those of one teacher.
    """

    neighbours: int = 3
    density: float = 0.5
    noise: float = 1.0
    multi_task_factor: int = 4

    def __post_init__(self) -> None:
        require_at_least(1, neighbours=self.neighbours, multi_task_factor=self.multi_task_factor)
        require_at_least(0, noise=self.noise)
        require_density(self.density)


@dataclass(frozen=True)
class Written:
    """What one generator wrote for all tasks.

    Attributes:
        name: of the generator.
        weights: n = tasks, from the tasks' prompts.
        deltas: [tasks, ...] float32, predicted.
        described: n = tasks, from their descriptions; None where a task has none.
    """

    name: str
    weights: LoRAWeights
    deltas: Tensor
    described: LoRAWeights | None


class ArmContext:
    """What the arms of a run's tasks are made from.

    Args:
        run: its folder.
        manifest: its teachers.
        generators: trained ones by name, of one spec and one kind of delta; meant to differ in
            their seeds alone.
        tasks: what is evaluated.
        deltas: [N, ...] of the teachers that are not held out, in the manifest's order.
        model: frozen base.
        tokenizer: of the base.
        settings: of the arms.
        seed: of random adapters and wrong conditions.
    """

    def __init__(
        self,
        run: RunFolder,
        manifest: Manifest,
        generators: dict[str, LoRAGenerator],
        tasks: Sequence[EvaluatedTask],
        deltas: Tensor,
        model: nn.Module,
        tokenizer: Any,
        settings: ArmSettings,
        seed: int,
    ) -> None:
        self.run, self.manifest, self.tasks = run, manifest, list(tasks)
        self.deltas, self.model, self.tokenizer = deltas, model, tokenizer
        self.settings, self.seed = settings, seed
        self.train_entries = manifest.of_split("train")
        self.train = manifest.load(run.checkpoints, self.train_entries)
        self._made: dict[str, LoRAWeights] = {}
        self._embeddings = EmbeddingCache(run.embeddings)
        self._first = next(iter(generators.values()))
        self._encoder = self._first.config.text_encoder
        self.outputs = [self._write(name, generator) for name, generator in generators.items()]
        prompts = [
            condition_from_prompts(read_prompts(run.checkpoints / entry.path)[0])
            for entry in self.train_entries
        ]
        self.texts = self._mean_embeddings([item.condition for item in self.tasks])
        self.teacher_texts = self._mean_embeddings(prompts)

    @property
    def device(self) -> torch.device:
        """Device of the base."""
        return device_of(self.model)

    @property
    def train_on_device(self) -> LoRAWeights:
        """The training teachers where products are quickest."""
        return self.train.to(self.device)

    def once(self, key: str, make: Callable[[], LoRAWeights]) -> LoRAWeights:
        """Return what `make` gave at the first call with `key`, kept on the CPU."""
        if key not in self._made:
            self._made[key] = make().to("cpu")
        return self._made[key]

    def drawn(self, key: str) -> torch.Generator:
        """Return a generator for `key`, the same in every evaluation with this seed."""
        digest = hashlib.sha256(f"{self.seed}:{key}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:6], "big"))

    def teacher_entries(self, index: int) -> list[TeacherEntry]:
        """The teachers of task number `index`."""
        name = self.tasks[index].task.name
        return [entry for entry in self.manifest.adapters if entry.task == name]

    def teacher(self, entry: TeacherEntry) -> LoRAWeights:
        """Load one teacher (n = 1)."""
        return self.manifest.load(self.run.checkpoints, [entry])

    @cached_property
    def retrieved_deltas(self) -> Tensor | None:
        """What the run's retriever predicts for every task, [tasks, ...].

        None where the run has none, or one of deltas of another kind.
        """
        folder = self.run.retriever("retriever")
        if not (folder / FINISHED).exists():
            return None
        predictor = DeltaPredictor.load(folder).eval()
        first = self.run.generator(self.outputs[0].name)
        if _trained_on(predictor.metadata, folder) != _trained_on(self._first.metadata, first):
            return None
        encoder = PretrainedTextEncoder(predictor.config.text_encoder)
        conditions = [item.condition for item in self.tasks]
        with torch.no_grad():
            return predictor(embed_conditions(conditions, encoder, self._embeddings))

    @cached_property
    def rank_one(self) -> LoRAWeights:
        """The adversaries of every task's first teacher, n = tasks."""
        firsts = [self.teacher_entries(index)[0] for index in range(len(self.tasks))]
        probes = create_generic_probes()
        with torch.no_grad():
            targets = torch.cat(
                [
                    compute_delta(self.model, self.teacher(entry).to(self.device), probes)
                    for entry in firsts
                ]
            )
        return match_mean_delta(self.model, probes, targets)

    def _write(self, name: str, generator: LoRAGenerator) -> Written:
        """Run one generator on all tasks."""
        output = write_adapters(
            generator, [item.condition for item in self.tasks], self._embeddings
        )
        descriptions = [item.description for item in self.tasks]
        described = None
        if all(descriptions):
            conditions = [condition_from_description(text) for text in descriptions]
            described = write_adapters(generator, conditions, self._embeddings).weights
        return Written(name, output.weights, output.delta, described)

    def _mean_embeddings(self, conditions: Sequence[Condition]) -> Tensor:
        """Mean embedding of each condition's texts, [b, dim]."""
        encoder = PretrainedTextEncoder(self._encoder)
        return embed_conditions(conditions, encoder, self._embeddings).mean()


def _trained_on(metadata: Mapping[str, Any], folder: Path) -> tuple[Any, ...]:
    return (*trained_probes(metadata, folder), trained_cache(metadata))
