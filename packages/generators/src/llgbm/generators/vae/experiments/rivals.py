"""Answers to a condition without a VAE: generators trained on the same teachers, and retrieval."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from llgbm.deltas.retrieval import retrieve
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import (
    ConditionBatch,
    condition_from_prompts,
    embed_conditions,
)
from llgbm.generators.experiments.prepare import preset_training, validated_five_times
from llgbm.generators.experiments.presets import ExperimentPreset
from llgbm.generators.experiments.run_ablations import generator_name
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.losses import DeltaGuided, DeltaOnly
from llgbm.generators.losses.recommended import recommended_objective
from llgbm.generators.runs import RunFolder
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.inputs import TrainingInputs
from llgbm.generators.training.train import train

# Every step of delta only runs the base, which takes several times as long as a step without it.
DELTA_ONLY_STEPS = 4
MULTI_TASK, DELTA_ONLY = "weights and delta, no VAE", "delta only, a quarter of the steps, no VAE"


def train_rivals(
    preset: ExperimentPreset,
    run: RunFolder,
    model: nn.Module,
    inputs: TrainingInputs,
    delta_cache: str,
    seed: int,
) -> dict[str, LoRAGenerator]:
    """Train the seed's generators without a VAE (its phases 4 and 5) on the same teachers.

    Delta only takes a quarter of the steps.

    Args:
        preset: sizes.
        run: folder of the run.
        model: frozen base.
        inputs: what the VAEs are trained on, without the teachers that they do not see.
        delta_cache: that the inputs' deltas lie in.
        seed: of the trainings.
    """
    quarter = replace(preset, steps=max(1, preset.steps // DELTA_ONLY_STEPS))
    chosen: dict[str, tuple[ExperimentPreset, DeltaGuided | DeltaOnly]] = {
        MULTI_TASK: (preset, recommended_objective(preset.steps)),
        DELTA_ONLY: (quarter, DeltaOnly()),
    }
    found = {}
    for words, (sizes, objective) in chosen.items():
        name = generator_name("vae-rival", words, seed)
        training = replace(
            validated_five_times(preset_training(sizes, run, name, model, seed)),
            objective=objective,
            delta_cache=delta_cache,
        )
        found[words] = LoRAGenerator.load(train(training, model, inputs))
    return found


def nearest_by_text(
    inputs: TrainingInputs,
    told: ConditionBatch,
    encoder: PretrainedTextEncoder,
    embeddings: EmbeddingCache,
) -> LoRAWeights:
    """For each of n conditions, the teacher whose prompts are nearest in the mean embedding."""
    conditions = [condition_from_prompts(prompts.prompts) for prompts in inputs.prompts]
    known = embed_conditions(conditions, encoder, embeddings).mean()
    places = [int(retrieve(query, known, 1)[0]) for query in told.mean()]
    return inputs.weights.select(places)
