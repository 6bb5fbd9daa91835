"""Deltas of fully fine-tuned models as targets (seed 001, phase 1.2, mode B)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from llgbm.deltas.adapter_folders import find_teachers, model_weight_files
from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.compute import compute_cache
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import RunError
from llgbm.deltas.fingerprint import model_folder_fingerprint
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.processes import Processes
from llgbm.generators.runs import RunFolder
from llgbm.generators.training.inputs import TrainingInputs

ALONE = Processes()


def with_model_targets(
    inputs: TrainingInputs,
    run: RunFolder,
    folder: Path,
    probes: ProbeSet,
    spec: DeltaSpec,
    cache_name: str,
    model: nn.Module,
    processes: Processes = ALONE,
) -> TrainingInputs:
    """Replace the adapters' deltas by those of models that were tuned as a whole.

    The adapters still give conditions and sizes, and their weights where an objective reads them.

    Args:
        inputs: of the run.
        run: its folder; the models' deltas are cached beside the adapters'.
        folder: of models, each in a folder `TASK` or `TASK_000`, `TASK_001`, ...; several of one
            task count by their mean.
        probes: on which deltas are read.
        spec: what is read.
        cache_name: of the adapters' delta cache.
        model: the loaded base.
        processes: that share the work.

    Raises:
        RunError: a training task without a model.
        ModelError: a model cannot be read or does not compare with the base.
    """
    _, models = find_teachers(folder)
    place = run.delta_cache("-".join(filter(None, (cache_name, "models"))))
    compute_cache(
        model,
        {},
        place,
        probes,
        spec,
        inputs.manifest.base_model,
        models=models,
        processes=processes,
    )
    cache = DeltaCache.open(
        place, inputs.manifest.base_fingerprint, probes, spec, inputs.manifest.base_model
    )
    prints = {
        name: model_folder_fingerprint(path, model_weight_files(path))
        for name, path in models.items()
    }

    def target(task: str) -> Tensor | None:
        own = [name for name in models if re.fullmatch(rf"{re.escape(task)}(_\d{{3}})?", name)]
        return cache.load_all({name: prints[name] for name in own}).mean(0) if own else None

    found = {task: target(task) for task in inputs.seen.tasks}
    missing = [task for task, delta in found.items() if delta is None]
    if missing:
        raise RunError(
            f"{folder}: models: expected one in a folder {missing[0]} or {missing[0]}_000 for "
            f"every training task, got none for {missing}"
        )
    families = inputs.families
    if families is not None:
        # Without a model for each of them, generators are chosen by the training tasks.
        others = [target(task) for task in families.tasks]
        known = all(delta is not None for delta in others)
        families = replace(families, deltas=_stack(others)) if known else None
    return replace(
        inputs,
        deltas=_stack([found[entry.task] for entry in inputs.entries]),
        seen=replace(inputs.seen, deltas=_stack([found[task] for task in inputs.seen.tasks])),
        families=families,
    )


def _stack(deltas: Sequence[Tensor | None]) -> Tensor:
    return torch.stack([delta for delta in deltas if delta is not None])
