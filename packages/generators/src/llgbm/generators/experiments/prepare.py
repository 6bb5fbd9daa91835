"""The teachers and delta caches that experiments share."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from torch import nn

from llgbm.deltas.compute import compute_cache
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.recommended import recommended_deltas
from llgbm.generators.decoders import FullWidthConfig
from llgbm.generators.experiments.presets import ExperimentPreset
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.teachers.teach import TeachConfig, teach
from llgbm.generators.training.config import TrainConfig


def prepare_teachers(
    preset: ExperimentPreset,
    run: RunFolder,
    base_model: str,
    seed: int,
    model: nn.Module,
    tokenizer: Any,
    shared_A: bool = True,
) -> Manifest:
    """Train what the run still lacks of a preset's teachers.

    Args:
        preset: sizes.
        run: folder of the run.
        base_model: its name.
        seed: of teachers and shards.
        model: the loaded base.
        tokenizer: of the base.
        shared_A: start all teachers from the same A.

    Raises:
        RunError: the folder holds other teachers.
        TaskError: a family without data.
    """
    config = TeachConfig(
        run.root,
        preset.tasks,
        preset.held_out,
        preset.validation,
        base_model,
        teachers_per_task=preset.teachers_per_task,
        data=preset.data,
        examples_per_teacher=preset.examples_per_teacher,
        keep_every=preset.keep_every,
        r=preset.r,
        lora_alpha=2.0 * preset.r,
        shared_A=shared_A,
        optim=preset.teacher,
        seed=seed,
    )
    return teach(config, model, tokenizer)


def preset_training(
    preset: ExperimentPreset, run: RunFolder, name: str, model: nn.Module, seed: int
) -> TrainConfig:
    """Settings of a training at the sizes of a preset, on the recommended deltas.

    Args:
        preset: sizes.
        run: folder of the run.
        name: of the generator.
        model: the loaded base.
        seed: of initialisation and data.
    """
    return TrainConfig(
        run.root,
        name,
        decoder=FullWidthConfig(codes=preset.codes),
        steps=preset.steps,
        batch_size=preset.batch_size,
        deltas=recommended_deltas(model),
        seed=seed,
    )


def validated_five_times(training: TrainConfig) -> TrainConfig:
    """The same training, validated after every fifth of it, its state saved half way."""
    return replace(
        training,
        validate_every=max(1, training.steps // 5),
        save_every=max(1, -(-training.steps // 2)),
    )


def cache_name(probes: str, spec: DeltaSpec, model: nn.Module) -> str:
    """Name of the delta cache of some probes and a kind of delta; empty for the main one."""
    if probes == "generic" and spec == recommended_deltas(model):
        return ""
    return text_fingerprint({"probes": probes, **asdict(spec)})[:12]


def prepare_deltas(
    run: RunFolder, manifest: Manifest, model: nn.Module, probes: str, spec: DeltaSpec
) -> str:
    """Compute what the run's cache for these probes still lacks; returns the cache's name."""
    name = cache_name(probes, spec, model)
    compute_cache(
        model,
        {entry.id: run.checkpoints / entry.path for entry in manifest.adapters},
        run.delta_cache(name),
        named_probes(probes),
        spec,
        manifest.base_model,
    )
    return name
