"""Composition: are deltas additive, and what do mixtures lose (seed 001, phase 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from llgbm.deltas.bootstrap import interval, paired_difference
from llgbm.deltas.by_layer import delta_cosine
from llgbm.deltas.environment import environment
from llgbm.deltas.merging import merge
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.recommended import recommended_deltas
from llgbm.deltas.retrieval import retrieve
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import Condition, embed_conditions
from llgbm.generators.evaluation.metrics import recovery
from llgbm.generators.evaluation.multiple_choice import score_choices
from llgbm.generators.experiments.composition_results import Additivity, CompositionResults
from llgbm.generators.experiments.measure import HELD_OUT_PROBES
from llgbm.generators.experiments.mixed_teachers import Pair, first_teachers, mixed_teachers
from llgbm.generators.experiments.presets import ExperimentPreset
from llgbm.generators.experiments.unseen import CONDITION_PROMPTS, unseen_examples
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.retriever.predictor import DeltaPredictor
from llgbm.generators.retriever.retrieve import training_deltas
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import load_run_task

RETRIEVED = 2


def pairs_of(manifest: Manifest, limit: int) -> list[Pair]:
    """Pairs of training tasks of different families, each task in one pair."""
    firsts = first_teachers(manifest)
    left = list(firsts)
    pairs: list[Pair] = []
    while len(left) > 1 and len(pairs) < limit:
        one = left.pop(0)
        other = next((t for t in left if firsts[t].family != firsts[one].family), None)
        if other is not None:
            left.remove(other)
            pairs.append((one, other))
    return pairs


@torch.no_grad()
def compose(
    run: RunFolder,
    manifest: Manifest,
    preset: ExperimentPreset,
    generator: LoRAGenerator,
    predictor: DeltaPredictor,
    model: nn.Module,
    tokenizer: Any,
    scale: str,
    seed: int,
) -> CompositionResults:
    """Compare mixed teachers, merges, and what generator and retriever make of mixed conditions.

    Args:
        run: folder of the run.
        manifest: its teachers, of at least two families.
        preset: sizes.
        generator: a trained one.
        predictor: a trained one.
        model: the loaded base.
        tokenizer: of the base.
        scale: in words.
        seed: of the intervals.
    """
    pairs = pairs_of(manifest, preset.pairs)
    with torch.enable_grad():
        mixed = mixed_teachers(run, manifest, pairs, preset.teacher, model, tokenizer)
    device = device_of(model)
    mixed = mixed.to(device)
    firsts = first_teachers(manifest)
    entries = manifest.of_split("train")
    teachers = manifest.load(run.checkpoints, entries).to(device)
    singles = {
        task: teachers.select([entries.index(firsts[task])]) for pair in pairs for task in pair
    }
    predicted = _predicted(run, manifest, predictor, pairs)
    known = training_deltas(run, manifest, predictor, run.retriever("retriever"))
    generated = _generated(run, manifest, generator, pairs).to(device)
    arms: dict[str, list[LoRAWeights | None]] = {"base": [None] * len(pairs)}
    for place, words in enumerate(("first_teacher", "second_teacher")):
        arms[words] = [singles[pair[place]] for pair in pairs]
    arms["mixed_teacher"] = [mixed.select([i]) for i in range(len(pairs))]
    both = [LoRAWeights.concatenate([singles[a], singles[b]]) for a, b in pairs]
    for method in ("average", "ties", "dare"):
        arms[method] = [merge(two, method=method) for two in both]
    arms["sum"] = [merge(two, coefficients=(1.0, 1.0)) for two in both]
    arms["retrieved_delta_sum"] = [
        merge(teachers.select(retrieve(a + b, known, RETRIEVED)[0].tolist())) for a, b in predicted
    ]
    arms["generated_mixed"] = [generated.select([i]) for i in range(len(pairs))]
    outcomes = _outcomes(manifest, pairs, arms, preset.examples, model, tokenizer)
    flat = {arm: {f"{p}:{t}": v for (p, t), v in found.items()} for arm, found in outcomes.items()}
    return CompositionResults(
        scale,
        environment(seed, device_of(model), next(model.parameters()).dtype),
        {
            probes: _additivity(
                model, probes, pairs, singles, mixed, predicted, probes == "generic"
            )
            for probes in ("generic", HELD_OUT_PROBES)
        },
        {
            arm: {
                "+".join(pair): {task: interval({task: found[index, task]}, seed) for task in pair}
                for index, pair in enumerate(pairs)
            }
            for arm, found in outcomes.items()
        },
        {arm: interval(found, seed) for arm, found in flat.items()},
        {
            arm: paired_difference(found, flat["average"], seed)
            for arm, found in flat.items()
            if arm != "average"
        },
        _retained(pairs, outcomes),
    )


def _mixed_conditions(manifest: Manifest, pairs: Sequence[Pair]) -> list[tuple[Condition, ...]]:
    """For each pair: the first task's condition, the second's, and one of both."""
    found = []
    for pair in pairs:
        parts = [
            tuple(
                example.query
                for example in unseen_examples(load_run_task(manifest, task), 0).condition[
                    : CONDITION_PROMPTS // 2
                ]
            )
            for task in pair
        ]
        texts = (*parts, parts[0] + parts[1])
        found.append(tuple(Condition(part, "prompts") for part in texts))
    return found


def _predicted(
    run: RunFolder, manifest: Manifest, predictor: DeltaPredictor, pairs: Sequence[Pair]
) -> list[tuple[Tensor, Tensor]]:
    encoder = PretrainedTextEncoder(predictor.config.text_encoder)
    cache = EmbeddingCache(run.embeddings)
    return [
        tuple(predictor(embed_conditions(conditions[:2], encoder, cache)))
        for conditions in _mixed_conditions(manifest, pairs)
    ]


def _generated(
    run: RunFolder, manifest: Manifest, generator: LoRAGenerator, pairs: Sequence[Pair]
) -> LoRAWeights:
    encoder = PretrainedTextEncoder(generator.config.text_encoder)
    conditions = [both for _, _, both in _mixed_conditions(manifest, pairs)]
    return generator.write(embed_conditions(conditions, encoder, EmbeddingCache(run.embeddings)))


def _additivity(
    model: nn.Module,
    probes: str,
    pairs: Sequence[Pair],
    singles: Mapping[str, LoRAWeights],
    mixed: LoRAWeights,
    predicted: Sequence[tuple[Tensor, Tensor]],
    predicted_here: bool,
) -> dict[str, Additivity]:
    """Cosines on one probe set; predictions are of the generic probes alone."""
    behaviour = Behaviour.of(model, named_probes(probes), recommended_deltas(model))
    device = device_of(model)
    found = {}
    for index, (first, second) in enumerate(pairs):
        together = [singles[first], singles[second], mixed.select([index])]
        one, two, both = behaviour(LoRAWeights.concatenate(together).to(device)).cpu()
        total = predicted[index][0] + predicted[index][1]
        found[f"{first}+{second}"] = Additivity(
            _cosine(both, one + two),
            _cosine(both, one),
            _cosine(both, two),
            _cosine(both, total) if predicted_here else None,
        )
    return found


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(delta_cosine(one[None], other[None]))


def _outcomes(
    manifest: Manifest,
    pairs: Sequence[Pair],
    arms: Mapping[str, Sequence[LoRAWeights | None]],
    examples: int,
    model: nn.Module,
    tokenizer: Any,
) -> dict[str, dict[tuple[int, str], np.ndarray]]:
    """Arm -> (pair, task) -> 0 or 1 an example, on validation examples not in a condition."""
    device = device_of(model)
    found: dict[str, dict[tuple[int, str], np.ndarray]] = {arm: {} for arm in arms}
    work = [(index, task) for index, pair in enumerate(pairs) for task in pair]
    for index, task in tqdm(work, desc="composition", unit="task", mininterval=1.0):
        scored = unseen_examples(load_run_task(manifest, task), examples).scored
        adapted = {arm: w[index] for arm, w in arms.items() if w[index] is not None}
        # Merged adapters have the spec of the teachers: all can run in one batch.
        together = LoRAWeights.concatenate([w for w in adapted.values() if w is not None])
        right = score_choices(model, tokenizer, scored, together.to(device)).correct().numpy()
        for place, arm in enumerate(adapted):
            found[arm][index, task] = right[place].astype(float)
        alone = score_choices(model, tokenizer, scored).correct().numpy()
        found["base"][index, task] = alone[0].astype(float)
    return found


def _retained(
    pairs: Sequence[Pair], outcomes: Mapping[str, Mapping[tuple[int, str], np.ndarray]]
) -> dict[str, float | None]:
    """What each arm keeps of the own teachers' gain: one ratio of means over all tasks."""

    def mean(values: Sequence[np.ndarray]) -> float:
        return float(np.mean([task.mean() for task in values]))

    own = [
        outcomes[teacher][index, task]
        for index, pair in enumerate(pairs)
        for task, teacher in zip(pair, ("first_teacher", "second_teacher"), strict=True)
    ]
    base = mean(list(outcomes["base"].values()))
    return {
        arm: recovery(mean(list(found.values())), base, mean(own))
        for arm, found in outcomes.items()
    }
