"""What a generator is trained on: teachers, their conditions and deltas, and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import RunError
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.task import Task
from llgbm.deltas.tasks import load_task
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import Condition
from llgbm.generators.dataset import TeacherPrompts, read_prompts
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest, TeacherEntry


@dataclass(frozen=True)
class TrainingInputs:
    """Teachers of the seen families and how to validate on them.

    Attributes:
        manifest: index of the run.
        entries: the N teachers trained on, none of a held-out family.
        weights: their factors.
        prompts: what their conditions are drawn from.
        deltas: [N, ...] float32.
        validation: one condition a seen task, from prompts no teacher saw.
        validation_groups: for each of them, the teachers of its task.
    """

    manifest: Manifest
    entries: tuple[TeacherEntry, ...]
    weights: LoRAWeights
    prompts: tuple[TeacherPrompts, ...]
    deltas: Tensor
    validation: tuple[Condition, ...]
    validation_groups: tuple[tuple[int, ...], ...]

    @property
    def validation_deltas(self) -> Tensor:
        """Mean teacher delta of each validation condition's task."""
        return torch.stack([self.deltas[list(group)].mean(0) for group in self.validation_groups])

    @property
    def validation_weights(self) -> LoRAWeights:
        """First teacher of each validation condition's task, n = conditions."""
        return self.weights.select([group[0] for group in self.validation_groups])


def collect_inputs(
    run: RunFolder, probes: ProbeSet, spec: DeltaSpec, condition_texts: int
) -> TrainingInputs:
    """Gather the training inputs of a run.

    Args:
        run: folder with teachers and their delta cache.
        probes: the cache must hold deltas on these.
        spec: and of this kind.
        condition_texts: prompts in a validation condition.

    Raises:
        RunError: no teachers to train on.
        CacheError: no cache, another one, or one that lacks a teacher.
    """
    manifest = Manifest.read(run.manifest)
    entries = manifest.select(held_out=False)
    if not entries:
        raise RunError(f"{run.manifest}: adapters: expected teachers that are not held out, got 0")
    run.require(run.deltas / "manifest.json", f"llgbm-deltas compute {run.checkpoints}")
    cache = DeltaCache.open(
        run.deltas, manifest.base_fingerprint, probes, spec, manifest.base_model
    )
    deltas = cache.load_all({entry.id: entry.fingerprint for entry in entries})
    tasks = {name: load_run_task(manifest, name) for name in dict.fromkeys(e.task for e in entries)}
    prompts = tuple(
        TeacherPrompts(
            *read_prompts(run.checkpoints / e.path), training_descriptions(tasks[e.task])
        )
        for e in entries
    )
    conditions = [
        Condition(tuple(x.query for x in task.validation[:condition_texts]), "prompts")
        for task in tasks.values()
    ]
    groups = [tuple(i for i, entry in enumerate(entries) if entry.task == name) for name in tasks]
    return TrainingInputs(
        manifest,
        tuple(entries),
        manifest.load(run.checkpoints, entries),
        prompts,
        deltas,
        tuple(conditions),
        tuple(groups),
    )


def load_run_task(manifest: Manifest, name: str) -> Task:
    """Load a task of a run as its teachers saw it: by the name or file given to `llgbm teach`."""
    seed = int(manifest.settings["seed"])
    given: Sequence[Any] = [*manifest.settings["tasks"], *manifest.settings["held_out"]]
    for source in given:
        task = load_task(str(source), seed=seed)
        if task.name == name:
            return task
    raise RunError(f"task {name}: not among the run's tasks {list(given)}")


def training_descriptions(task: Task) -> tuple[str, ...]:
    """Descriptions to train on: the last two are kept back where there are enough."""
    return task.descriptions[:-2] if len(task.descriptions) > 3 else task.descriptions
