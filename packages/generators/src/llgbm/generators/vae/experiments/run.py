"""`llgbm experiment vae-...`: train variants of a VAE, rebuild teachers that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.environment import environment
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.recommended import recommended_deltas
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import embed_conditions
from llgbm.generators.evaluation.arms.nulls import mean_adapter
from llgbm.generators.experiments.measure import HELD_OUT_PROBES
from llgbm.generators.experiments.prepare import prepare_teachers
from llgbm.generators.experiments.prepared import Prepared
from llgbm.generators.experiments.presets import ExperimentPreset
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import TrainingInputs
from llgbm.generators.vae.experiments.accuracy_notes import AccuracyNotes
from llgbm.generators.vae.experiments.config import (
    VAEExperimentConfig,
    named_by_settings,
    vae_training,
)
from llgbm.generators.vae.experiments.describe import EncodedPart, describe_latent, map_latents
from llgbm.generators.vae.experiments.measure import measure_rows
from llgbm.generators.vae.experiments.references import nearest_teachers, task_means
from llgbm.generators.vae.experiments.results import LatentFound, LatentMap, VAEResults, vae_table
from llgbm.generators.vae.experiments.rivals import nearest_by_text, train_rivals
from llgbm.generators.vae.experiments.split import split_teachers
from llgbm.generators.vae.experiments.ways import Way, measure_ways, of_variant
from llgbm.generators.vae.files import load_vae
from llgbm.generators.vae.held_out import HeldOutTeachers, as_teachers
from llgbm.generators.vae.train import train_vae
from llgbm.generators.vae.transfer import Transfer


def run_vae_experiment(
    config: VAEExperimentConfig, model: nn.Module | None = None, tokenizer: Any = None
) -> VAEResults:
    """Train every variant, measure, write the results and print the table.

    Raises:
        RunError: the run folder holds other teachers or trainings, or too few teachers a task.
        SettingError: a variant needs a package that is not installed.
        TaskError: a family without data.
    """
    preset, experiment = config.chosen_sizes, config.experiment
    run = RunFolder(config.run)
    transfer = None
    if config.transfer_from is not None and config.sources is not None:
        # Before hours of teaching: is there such a VAE?
        transfer = Transfer.of(config.transfer_from, config.sources)
    if model is None:
        model, tokenizer = load_base_model(config.base_model)
    for change in experiment.variants.values():
        change(vae_training(config, model)).vae.require_packages()
    print(f"{config.name}: {experiment.question} ({config.preset}, run folder {run.root})")
    manifest = prepare_teachers(preset, run, config.base_model, config.seed, model, tokenizer)
    prepared = Prepared(run, manifest, model)
    base = prepared.cached(vae_training(config, model))
    teachers = split_teachers(base, prepared.inputs(base), run)
    moved = teachers
    if transfer is not None:
        moved = split_teachers(base, prepared.inputs(base), run, transfer)
    kept, parts = teachers.kept, teachers.parts
    encoder, embeddings = PretrainedTextEncoder(base.encoder), EmbeddingCache(run.embeddings)
    told = {
        split: embed_conditions(part.conditions, encoder, embeddings)
        for split, part in {**parts, "trained": as_teachers(kept)}.items()
    }
    first, second = (
        Behaviour.of(model, named_probes(probes), recommended_deltas(model))
        for probes in (base.probes, HELD_OUT_PROBES)
    )
    made = {split: _references(kept, part) for split, part in parts.items()}
    for split in parts:
        made[split]["nearest teacher by text"] = nearest_by_text(
            kept, told[split], encoder, embeddings
        )
    if experiment.rivals:
        rivals = train_rivals(preset, run, model, kept, base.delta_cache, config.seed)
        for name, generator in rivals.items():
            for split in parts:
                made[split][name] = generator.write(told[split])
    latents: dict[str, LatentFound] = {}
    ways: dict[str, Way] = {}
    maps: tuple[LatentMap, ...] = ()
    trainings = {
        name: named_by_settings(change(base)) for name, change in experiment.variants.items()
    }
    # First, since what was trained stays, and not all that is measured of it does.
    folders = {name: train_vae(each, model, teachers.inputs) for name, each in trainings.items()}
    for variant, training in trainings.items():
        folder = folders[variant]
        vae = load_vae(folder)
        read = teachers if training.transfer_from is None else moved
        encoded = {
            split: EncodedPart.of(vae, part, told[split])
            for split, part in {"trained": as_teachers(read.kept), **read.parts}.items()
        }
        for split in parts:
            with torch.no_grad():
                made[split][variant] = vae.generate_from_z(encoded[split].latent.z)
            made[split][f"{variant}, written"] = vae.write(told[split])
        latents[variant] = describe_latent(vae, folder, encoded, first, config.seed)
        if not maps or experiment.all_ways:
            walked = measure_ways(
                vae, encoded["held_out"].latent.z, parts["held_out"], manifest, model, tokenizer,
                first, preset.examples, preset.pairs, config.seed, folder,
            )  # fmt: skip
            ways |= walked if not maps else of_variant(walked, variant)
        maps = maps or map_latents(encoded, config.seed)
    notes = AccuracyNotes(run.experiments, manifest.base_fingerprint)
    results = VAEResults(
        config.name,
        experiment.question,
        _scale(config, preset, parts),
        environment(config.seed, device_of(model), next(model.parameters()).dtype),
        latents,
        {
            split: measure_rows(
                part, made[split], manifest, model, tokenizer, (first, second), preset.examples,
                config.seed, notes,
            )
            for split, part in parts.items()
        },
        ways,
        maps,
    )  # fmt: skip
    path = run.experiments / f"{config.name}.json"
    results.write(path)
    if config.out is not None:
        results.write(config.out)
    print(vae_table(results))
    print(f"{config.out or path}: {results.scale}")
    print(f"pictures: llgbm report --run {run.root}")
    return results


def _references(kept: TrainingInputs, part: HeldOutTeachers) -> dict[str, LoRAWeights]:
    """Stand-ins that no VAE makes."""
    mean = mean_adapter(kept.weights)
    found = {
        "mean adapter": mean.select([0] * part.weights.n),
        "nearest teacher": nearest_teachers(kept.weights, part.weights),
    }
    of_task = task_means(kept.weights, [entry.task for entry in kept.entries], part.tasks)
    return found if of_task is None else {**found, "mean of the task's others": of_task}


def _scale(
    config: VAEExperimentConfig, preset: ExperimentPreset, parts: Mapping[str, HeldOutTeachers]
) -> str:
    words = "own sizes" if config.sizes else f"preset {config.preset}"
    if config.transfer_from is not None and config.sources is not None:
        moved = Manifest.read(RunFolder(config.sources).manifest).base_model
        words += f", latents of a VAE of {moved}"
    counts = ", ".join(f"{part.weights.n} {split}" for split, part in parts.items())
    seen = "the same examples in other orders" if preset.data == "shared" else "examples of its own"
    return (
        f"{config.base_model}, {words}: {len(preset.tasks)} tasks, "
        f"{preset.teachers_per_task} teachers each, every one on {seen}, one measured and one that "
        f"chooses the best step held out; rebuilt: {counts}; "
        f"at most {preset.examples} validation examples a task; packaged evaluation data split "
        "again, fixed seed"
    )
