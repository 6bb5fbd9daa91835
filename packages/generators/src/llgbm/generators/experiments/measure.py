"""What an ablation compares: behaviour and accuracy of generators on unseen conditions.

Measured on the training tasks' and the validation families' validation examples, but not on the
prompts that trainings chose their best step by. Test families and test examples are left to
`llgbm evaluate`: choices made by these numbers must not be made on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.recommended import recommended_deltas
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import Condition, embed_conditions
from llgbm.generators.evaluation.arms.generated import mismatched
from llgbm.generators.evaluation.multiple_choice import score_choices
from llgbm.generators.experiments.unseen import unseen_examples
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.teachers.shards import Split
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import condition_of, load_run_task
from llgbm.generators.training.probes import validated_by

SPLIT_NAMES: Mapping[Split, str] = {"train": "seen", "validation": "validation_family"}
# Probes that no variant is trained on.
HELD_OUT_PROBES = "commonsense"
ADAPTERS_AT_ONCE = 8


@dataclass(frozen=True)
class Measured:
    """One generator on the tasks of one split.

    Attributes:
        tasks: in the order of the values.
        cosine: for each task, of its delta with the teachers' mean on each generic probe, the mean
            over several layers.
        held_out_cosine: likewise on probes that no generator is trained on.
        kl: for each task, KL(teachers' first || generated) of next tokens after each held-out
            probe, nats.
        correct: for each task, 0 or 1 an example.
        wrong_condition: likewise for adapters written from another family's prompts.
    """

    tasks: tuple[str, ...]
    cosine: tuple[tuple[float, ...], ...]
    held_out_cosine: tuple[tuple[float, ...], ...]
    kl: tuple[tuple[float, ...], ...]
    correct: tuple[tuple[float, ...], ...]
    wrong_condition: tuple[tuple[float, ...], ...]


@torch.no_grad()
def measure(
    run: RunFolder,
    manifest: Manifest,
    model: nn.Module,
    tokenizer: Any,
    generators: Sequence[str],
    examples: int,
    seed: int,
) -> dict[str, dict[str, Measured]]:
    """Measure generators of a run side by side.

    Args:
        run: folder of the run.
        manifest: its teachers.
        model: the loaded base.
        tokenizer: of the base.
        generators: names.
        examples: scored of each task.
        seed: of the wrong conditions.

    Returns:
        Split (`seen`, and `validation_family` where there are some) -> generator -> measured.
    """
    loaded = {name: LoRAGenerator.load(run.generator(name)).eval() for name in generators}
    found: dict[str, dict[str, Measured]] = {}
    for split, name in SPLIT_NAMES.items():
        if manifest.of_split(split):
            found[name] = _split(run, manifest, split, model, tokenizer, loaded, examples, seed)
    return found


def _split(
    run: RunFolder,
    manifest: Manifest,
    split: Split,
    model: nn.Module,
    tokenizer: Any,
    generators: Mapping[str, LoRAGenerator],
    examples: int,
    seed: int,
) -> dict[str, Measured]:
    entries = manifest.of_split(split)
    tasks = tuple(dict.fromkeys(entry.task for entry in entries))
    data = [load_run_task(manifest, task) for task in tasks]
    blocks = [unseen_examples(task, examples) for task in data]
    device = device_of(model)
    teachers = manifest.load(run.checkpoints, entries).to(device)
    members = [[i for i, entry in enumerate(entries) if entry.task == task] for task in tasks]
    written = {}
    for name, generator in generators.items():
        kind = validated_by(generator.metadata)
        conditions = [condition_of(block.condition, kind) for block in blocks]
        written[name] = _write(generator, conditions, run).to(device)
    cosines, held_out, kl = _behaviour(model, teachers, members, written)
    wrong = _wrong_conditions(manifest, tasks, seed)
    correct: dict[str, list[tuple[float, ...]]] = {name: [] for name in generators}
    mistaken: dict[str, list[tuple[float, ...]]] = {name: [] for name in generators}
    for index, (task, block) in enumerate(
        zip(
            tqdm(data, desc=f"accuracy, {split}", unit="task", mininterval=1.0),
            blocks,
            strict=True,
        )
    ):
        task.require_choices()
        pools = [weights.select([index]) for weights in written.values()]
        if wrong is not None:
            pools += [weights.select([wrong[index]]) for weights in written.values()]
        right = torch.cat(
            [
                score_choices(
                    model,
                    tokenizer,
                    block.scored,
                    LoRAWeights.concatenate(pools[i : i + ADAPTERS_AT_ONCE]),
                ).correct()
                for i in range(0, len(pools), ADAPTERS_AT_ONCE)
            ]
        ).float()
        for place, name in enumerate(generators):
            correct[name].append(tuple(right[place].tolist()))
            if wrong is not None:
                mistaken[name].append(tuple(right[len(generators) + place].tolist()))
    return {
        name: Measured(
            tasks,
            _rows(cosines[name]),
            _rows(held_out[name]),
            _rows(kl[name]),
            tuple(correct[name]),
            tuple(mistaken[name]),
        )
        for name in generators
    }


def _write(
    generator: LoRAGenerator, conditions: Sequence[Condition], run: RunFolder
) -> LoRAWeights:
    encoder = PretrainedTextEncoder(generator.config.text_encoder)
    return generator.write(embed_conditions(conditions, encoder, EmbeddingCache(run.embeddings)))


def _behaviour(
    model: nn.Module,
    teachers: LoRAWeights,
    members: Sequence[Sequence[int]],
    written: Mapping[str, LoRAWeights],
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Cosines on the generic probes, on held-out ones, and KL on these; each [tasks, probes]."""
    spec = recommended_deltas(model)
    generic = Behaviour.of(model, named_probes("generic"), spec)
    other = Behaviour.of(model, named_probes(HELD_OUT_PROBES), spec)
    by_generic, by_other = generic(teachers), other(teachers)
    target = torch.stack([by_generic[list(group)].mean(0) for group in members])
    target_other = torch.stack([by_other[list(group)].mean(0) for group in members])
    firsts = other.log_probabilities(by_other[[group[0] for group in members]])
    cosines, held_out, kl = {}, {}, {}
    for name, weights in written.items():
        cosines[name] = _by_probe(generic(weights), target)
        deltas = other(weights)
        held_out[name] = _by_probe(deltas, target_other)
        divergence = F.kl_div(
            other.log_probabilities(deltas), firsts, log_target=True, reduction="none"
        )
        kl[name] = divergence.sum(-1).cpu()
    return cosines, held_out, kl


def _by_probe(deltas: Tensor, target: Tensor) -> Tensor:
    """Cosine of [tasks, probes, layers, hidden], the mean over layers; [tasks, probes]."""
    return F.cosine_similarity(deltas, target, dim=-1).mean(2).cpu()


def _rows(values: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())


def _wrong_conditions(manifest: Manifest, tasks: Sequence[str], seed: int) -> list[int] | None:
    """Index of the task of another family whose condition each task is given."""
    families = {entry.task: entry.family for entry in manifest.adapters}
    if len({families[task] for task in tasks}) < 2:
        return None
    taken = mismatched(families, tasks, seed)
    return [tasks.index(taken[task]) for task in tasks]
