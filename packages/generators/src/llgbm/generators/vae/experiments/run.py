"""`llgbm experiment vae-...`: train variants of a VAE, rebuild teachers that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.environment import environment
from llgbm.deltas.errors import SettingError
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.recommended import recommended_deltas
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import embed_conditions
from llgbm.generators.decoders import FullWidthConfig
from llgbm.generators.evaluation.arms.nulls import mean_adapter
from llgbm.generators.experiments.measure import HELD_OUT_PROBES
from llgbm.generators.experiments.prepare import prepare_teachers
from llgbm.generators.experiments.prepared import Prepared
from llgbm.generators.experiments.presets import ExperimentPreset, PresetName
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.shards import ShardData
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import TrainingInputs
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.experiments.describe import EncodedPart, describe_latent, map_latents
from llgbm.generators.vae.experiments.measure import measure_rows
from llgbm.generators.vae.experiments.presets import HELD_OUT_TEACHERS, vae_preset
from llgbm.generators.vae.experiments.references import nearest_teachers, task_means
from llgbm.generators.vae.experiments.results import LatentFound, LatentMap, VAEResults, vae_table
from llgbm.generators.vae.experiments.rivals import nearest_by_text, train_rivals
from llgbm.generators.vae.experiments.variants import VAE_EXPERIMENTS, VAEExperiment
from llgbm.generators.vae.experiments.ways import Way, measure_ways
from llgbm.generators.vae.files import load_vae
from llgbm.generators.vae.held_out import HeldOutTeachers, as_teachers, keep_back
from llgbm.generators.vae.train import family_teachers, train_vae
from llgbm.generators.vae.train_config import VAETrainConfig


@dataclass(frozen=True)
class VAEExperimentConfig:
    """Answer one question about latents of adapters.

    Args:
        name: of the experiment, of VAE_EXPERIMENTS.
        run: run folder.
        preset: sizes.
        out: file that the results are copied to.
        variants: names of those to run beside the first; all where not given.
        teachers: `shared`: teachers of a task see the same examples in other orders; `disjoint`:
            those of the main job.
        base_model: `smollm2-135m`, a local folder or a hub id.
        seed: of everything.
        sizes: of your own, in place of the preset's.
    """

    name: str
    run: Path
    preset: PresetName = "demo"
    out: Path | None = None
    variants: tuple[str, ...] = ()
    teachers: ShardData = "shared"
    base_model: str = "smollm2-135m"
    seed: int = 0
    sizes: ExperimentPreset | None = None

    def __post_init__(self) -> None:
        if self.name not in VAE_EXPERIMENTS:
            raise SettingError(
                f"experiment: expected one of {sorted(VAE_EXPERIMENTS)}, got {self.name!r}"
            )
        expected = list(VAE_EXPERIMENTS[self.name].variants)
        unknown = [name for name in self.variants if name not in expected]
        if unknown:
            raise SettingError(f"variants: expected among {expected}, got {unknown}")
        count = self.chosen_sizes.teachers_per_task
        if count <= HELD_OUT_TEACHERS:
            raise SettingError(
                f"teachers: expected more than {HELD_OUT_TEACHERS} of each task, which are held "
                f"out, got {count} {self.teachers} ones in preset {self.preset}"
            )

    @property
    def chosen_sizes(self) -> ExperimentPreset:
        """Those given, or the preset's."""
        return self.sizes or vae_preset(self.preset, self.teachers)

    @property
    def experiment(self) -> VAEExperiment:
        """The experiment, with the chosen variants."""
        whole = VAE_EXPERIMENTS[self.name]
        first = next(iter(whole.variants))
        lacking = () if self.chosen_sizes.keep_every else whole.on_trajectories
        chosen = {
            name: change
            for name, change in whole.variants.items()
            if (name in (first, *self.variants)) or (not self.variants and name not in lacking)
        }
        return replace(whole, variants=chosen)


def run_vae_experiment(
    config: VAEExperimentConfig, model: nn.Module | None = None, tokenizer: Any = None
) -> VAEResults:
    """Train every variant, measure, write the results and print the table.

    Raises:
        RunError: the run folder holds other teachers or trainings, or too few teachers a task.
        TaskError: a family without data.
    """
    preset, experiment = config.chosen_sizes, config.experiment
    run = RunFolder(config.run)
    if model is None:
        model, tokenizer = load_base_model(config.base_model)
    print(f"{config.name}: {experiment.question} ({config.preset}, run folder {run.root})")
    manifest = prepare_teachers(preset, run, config.base_model, config.seed, model, tokenizer)
    prepared = Prepared(run, manifest, model)
    base = prepared.cached(vae_training(preset, run, "unused", model, config.seed))
    # The last teacher of every task is measured; the one before chooses the best step.
    inputs, held_out = keep_back(prepared.inputs(base), 1)
    kept, _ = keep_back(inputs, base.hold_out)
    parts = {"held_out": held_out}
    families = family_teachers(base, inputs, run)
    if families is not None:
        parts["validation_family"] = families
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
    for variant, change in experiment.variants.items():
        folder = train_vae(named_by_settings(change(base)), model, inputs)
        vae = load_vae(folder)
        encoded = {
            split: EncodedPart.of(vae, part, told[split])
            for split, part in {"trained": as_teachers(kept), **parts}.items()
        }
        for split in parts:
            with torch.no_grad():
                made[split][variant] = vae.generate_from_z(encoded[split].latent.z)
            made[split][f"{variant}, written"] = vae.write(told[split])
        latents[variant] = describe_latent(vae, folder, encoded, first, config.seed)
        if not maps:
            maps = map_latents(encoded, config.seed)
            ways = measure_ways(
                vae, encoded["held_out"].latent.z, held_out, manifest, model, tokenizer, first,
                preset.examples, preset.pairs, config.seed,
            )  # fmt: skip
    results = VAEResults(
        config.name,
        experiment.question,
        _scale(config, preset, parts),
        environment(config.seed, device_of(model), next(model.parameters()).dtype),
        latents,
        {
            split: measure_rows(
                part, made[split], manifest, model, tokenizer, (first, second), preset.examples,
                config.seed,
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


def named_by_settings(training: VAETrainConfig) -> VAETrainConfig:
    """Name a training by what decides it: experiments share those that are alike."""
    settings = {key: value for key, value in training.settings().items() if key != "name"}
    return replace(training, name=f"vae-{text_fingerprint(settings)[:10]}")


def vae_training(
    preset: ExperimentPreset, run: RunFolder, name: str, model: nn.Module, seed: int
) -> VAETrainConfig:
    """Settings of a VAE's training at the sizes of a preset."""
    every = max(1, preset.steps // 5)
    return VAETrainConfig(
        run.root,
        name,
        steps=preset.steps,
        batch_size=2 * preset.batch_size,
        deltas=recommended_deltas(model),
        validate_every=every,
        save_every=max(1, -(-preset.steps // 2)),
        vae=VAEConfig(decoder=FullWidthConfig(codes=4 * preset.codes)),
        seed=seed,
    )


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
    counts = ", ".join(f"{part.weights.n} {split}" for split, part in parts.items())
    seen = "the same examples in other orders" if preset.data == "shared" else "examples of its own"
    return (
        f"{config.base_model}, {words}: {len(preset.tasks)} tasks, "
        f"{preset.teachers_per_task} teachers each, every one on {seen}, one measured and one that "
        f"chooses the best step held out; rebuilt: {counts}; "
        f"at most {preset.examples} validation examples a task; packaged evaluation data split "
        "again, fixed seed"
    )
