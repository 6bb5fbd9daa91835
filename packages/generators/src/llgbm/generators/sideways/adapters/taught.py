"""A collection of the main job's teachers of one task, with the checkpoints of their way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from llgbm.deltas.atomic import save_tensors
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.peft_format import load_adapter
from llgbm.deltas.tasks import load_task
from llgbm.generators.runs import RunFolder
from llgbm.generators.sideways.adapters.blocks import to_blocks
from llgbm.generators.sideways.adapters.collect import begin, index
from llgbm.generators.sideways.adapters.source import AdapterRuns, AdapterWorld
from llgbm.generators.sideways.adapters.teach import checkpoint_file
from llgbm.generators.sideways.collection.collection import Collection
from llgbm.generators.teachers.manifest import Manifest, TeacherEntry

FEWEST_TEACHERS = 3


def collect_taught(
    folder: Path,
    run: RunFolder,
    settings: AdapterRuns,
    model: nn.Module | None = None,
    tokenizer: Any = None,
) -> Collection:
    """Copy and measure every checkpoint of a task's teachers; write the index.

    Teachers of one run have the same settings: there are no hyperparameters.

    Args:
        folder: of the collection; one with the same settings is gone on with.
        run: that `llgbm teach --keep-every` made.
        settings: task, other tasks, texts and examples to measure on; all else is the run's.
        model: the run's base; loaded here where None.
        tokenizer: of the base.

    Raises:
        RunError: no run, fewer than three teachers of the task, no checkpoints of their way, or a
            base with other weights.
    """
    manifest = Manifest.read(run.manifest)
    settings = _as_taught(settings, manifest, run.manifest)
    name = load_task(settings.task, seed=settings.seed).name
    entries = [entry for entry in manifest.adapters if entry.task == name]
    if len(entries) < FEWEST_TEACHERS:
        raise RunError(
            mismatch(
                run.manifest,
                f"teachers of {name!r}",
                f"at least {FEWEST_TEACHERS}",
                f"{len(entries)} (tasks: {manifest.tasks})",
            )
        )
    world = AdapterWorld.of(settings, model, tokenizer)
    if world.fingerprint != manifest.base_fingerprint:
        raise RunError(
            mismatch(run.manifest, "base model", manifest.base_fingerprint, world.fingerprint)
        )
    ways = {entry.id: _way(run, entry) for entry in entries}
    begin(folder, {**world.source(), "taught": [entry.fingerprint for entry in entries]})
    for teacher, way in ways.items():
        for step, path in way.items():
            file = checkpoint_file(teacher, step)
            if not (folder / file).exists():
                save_tensors(folder / file, to_blocks(load_adapter(path), 0))
    return index(folder, world, {(teacher, step): {} for teacher in ways for step in ways[teacher]})


def _as_taught(settings: AdapterRuns, manifest: Manifest, where: Path) -> AdapterRuns:
    """Settings with everything that the run decides."""
    known: Mapping[str, Any] = manifest.settings
    try:
        return replace(
            settings,
            base_model=manifest.base_model,
            r=known["r"],
            lora_alpha=known["lora_alpha"],
            target_modules=tuple(known["target_modules"]),
            # Its splits: what is measured here was not trained on there.
            seed=known["seed"],
        )
    except KeyError as error:
        raise RunError(
            f"{where}: settings: expected those of `llgbm teach`, got no {error}"
        ) from error


def _way(run: RunFolder, entry: TeacherEntry) -> dict[int, Path]:
    """Checkpoints of a teacher by step, the teacher itself last."""
    kept = sorted((run.trajectories / entry.task / entry.id).glob("step_*"))
    if not kept:
        raise RunError(
            f"{run.trajectories / entry.task / entry.id}: expected checkpoints of the way, got "
            "none: run `llgbm teach` with --keep-every"
        )
    found = {int(path.name.removeprefix("step_")): path for path in kept}
    return {**found, entry.steps: run.checkpoints / entry.path}
