"""What a generator is trained on: teachers, their conditions and deltas, and validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.cache_contents import read_contents
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.task import Example, Task
from llgbm.deltas.tasks import load_task
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import (
    Condition,
    ConditionKind,
    condition_from_answers,
    condition_from_prompts,
)
from llgbm.generators.dataset import TeacherPrompts, read_prompts
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest, TeacherEntry
from llgbm.generators.training.settings import TrainingSettings


@dataclass(frozen=True)
class ValidationSet:
    """Conditions from prompts that no teacher saw, and what their adapters should be like.

    Attributes:
        tasks: v names.
        conditions: one a task.
        deltas: [v, ...] float32, mean delta of each task's teachers.
        weights: first teacher of each task, n = v.
    """

    tasks: tuple[str, ...]
    conditions: tuple[Condition, ...]
    deltas: Tensor
    weights: LoRAWeights


@dataclass(frozen=True)
class TrainingInputs:
    """Teachers of the training families and how to validate on them and on others.

    Attributes:
        manifest: index of the run.
        entries: the N teachers trained on.
        weights: their factors.
        prompts: what their conditions are drawn from.
        deltas: [N, ...] float32.
        seen: validation on the tasks trained on.
        families: validation on the validation families, where the run has some.
        sources: the same teachers of another base, which latents are read off; the teachers
            themselves where None.
    """

    manifest: Manifest
    entries: tuple[TeacherEntry, ...]
    weights: LoRAWeights
    prompts: tuple[TeacherPrompts, ...]
    deltas: Tensor
    seen: ValidationSet
    families: ValidationSet | None
    sources: LoRAWeights | None = None


def collect_inputs(
    run: RunFolder,
    probes: ProbeSet,
    spec: DeltaSpec,
    condition_texts: int,
    cache_name: str = "",
    kind: ConditionKind = "prompts",
) -> TrainingInputs:
    """Gather the training inputs of a run.

    Args:
        run: folder with teachers and their delta cache.
        probes: the cache must hold deltas on these.
        spec: and of this kind.
        condition_texts: prompts in a validation condition.
        cache_name: of the delta cache; see RunFolder.delta_cache.
        kind: of validation conditions.

    Raises:
        RunError: no teachers to train on, or some that change nothing.
        CacheError: no cache, another one, or one that lacks a teacher.
    """
    manifest = Manifest.read(run.manifest)
    entries = manifest.of_split("train")
    _check_complete(manifest, run)
    if not entries:
        raise RunError(f"{run.manifest}: adapters: expected teachers that are not held out, got 0")
    folder = _cache_folder(run, cache_name)
    cache = DeltaCache.open(folder, manifest.base_fingerprint, probes, spec, manifest.base_model)
    deltas = cache.load_all({entry.id: entry.fingerprint for entry in entries})
    weights = manifest.load(run.checkpoints, entries)
    manifest.check_updates(run.manifest, entries, weights)
    tasks = {name: load_run_task(manifest, name) for name in dict.fromkeys(e.task for e in entries)}
    prompts = tuple(
        TeacherPrompts(
            *read_prompts(run.checkpoints / e.path), training_descriptions(tasks[e.task])
        )
        for e in entries
    )
    others = manifest.of_split("validation")
    families = None
    if others:
        found = cache.load_all({entry.id: entry.fingerprint for entry in others})
        loaded = manifest.load(run.checkpoints, others)
        families = validation_set(manifest, others, loaded, found, condition_texts, kind)
    return TrainingInputs(
        manifest,
        tuple(entries),
        weights,
        prompts,
        deltas,
        validation_set(manifest, entries, weights, deltas, condition_texts, kind),
        families,
    )


def inputs_of(config: TrainingSettings) -> TrainingInputs:
    """Gather the inputs that a training asks for; see `collect_inputs`."""
    return collect_inputs(
        RunFolder(config.run),
        named_probes(config.probes),
        config.chosen_deltas,
        config.condition_texts[1],
        config.delta_cache,
        config.conditions.validated_by,
    )


def cached_spec(run: RunFolder, cache_name: str = "") -> DeltaSpec:
    """What the deltas of a run's cache were read off.

    Args:
        run: folder with a delta cache.
        cache_name: of the delta cache; see RunFolder.delta_cache.

    Raises:
        RunError: no cache.
        CacheError: a damaged one.
    """
    return read_contents(_cache_folder(run, cache_name)).spec


def _cache_folder(run: RunFolder, name: str) -> Path:
    folder = run.delta_cache(name)
    run.require(folder / "manifest.json", f"llgbm-deltas compute {run.checkpoints}")
    return folder


def _check_complete(manifest: Manifest, run: RunFolder) -> None:
    """Raise RunError where `llgbm teach` was interrupted and not called again."""
    settings = manifest.settings
    if "imported" in settings:  # of any number a task, and written whole
        return
    given = [*settings["tasks"], *settings.get("validation", ()), *settings["held_out"]]
    expected = len(given) * int(settings["teachers_per_task"])
    if len(manifest.adapters) != expected:
        raise RunError(
            mismatch(run.manifest, "adapters", f"{expected} teachers", len(manifest.adapters))
            + ": run `llgbm teach` again to go on"
        )


def validation_set(
    manifest: Manifest,
    entries: Sequence[TeacherEntry],
    weights: LoRAWeights,
    deltas: Tensor,
    condition_texts: int,
    kind: ConditionKind = "prompts",
) -> ValidationSet:
    """Make one condition a task from the task's validation prompts.

    Args:
        manifest: of the run.
        entries: N teachers.
        weights: of these.
        deltas: [N, ...] of these.
        condition_texts: prompts in a condition.
        kind: `prompts`, or `prompts_with_answers`.
    """
    names = tuple(dict.fromkeys(entry.task for entry in entries))
    members = [[i for i, entry in enumerate(entries) if entry.task == name] for name in names]
    conditions = [
        condition_of(load_run_task(manifest, name).validation[:condition_texts], kind)
        for name in names
    ]
    return ValidationSet(
        names,
        tuple(conditions),
        torch.stack([deltas[group].mean(0) for group in members]),
        weights.select([group[0] for group in members]),
    )


def condition_of(examples: Sequence[Example], kind: ConditionKind) -> Condition:
    """A condition from examples: their queries, or these with the right answers."""
    queries = [example.query for example in examples]
    if kind == "prompts_with_answers":
        return condition_from_answers(queries, [e.choices[e.gold] for e in examples])
    return condition_from_prompts(queries)


def load_run_task(manifest: Manifest, name: str) -> Task:
    """Load a task of a run as its teachers saw it: by the name or file given to `llgbm teach`."""
    seed = int(manifest.settings["seed"])
    settings = manifest.settings
    given: Sequence[Any] = [
        *settings["tasks"],
        *settings.get("validation", ()),
        *settings["held_out"],
    ]
    for source in given:
        task = load_task(str(source), seed=seed)
        if task.name == name:
            return task
    raise RunError(f"task {name}: not among the run's tasks {list(given)}")


def training_descriptions(task: Task) -> tuple[str, ...]:
    """Descriptions to train on: the last two are kept back where there are enough."""
    return task.descriptions[:-2] if len(task.descriptions) > 3 else task.descriptions
