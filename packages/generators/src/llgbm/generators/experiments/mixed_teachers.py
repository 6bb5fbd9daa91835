"""Teachers of two tasks at once, for questions of composition (seed 001, phase 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from llgbm.deltas.peft_format import load_adapter, save_adapter
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.task import Example
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.dataset import read_prompts
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.batched import BatchedTeachers, TeacherOptim
from llgbm.generators.teachers.manifest import Manifest, TeacherEntry
from llgbm.generators.teachers.shards import Shard

Pair = tuple[str, str]


def first_teachers(manifest: Manifest) -> dict[str, TeacherEntry]:
    """The first training teacher of every task."""
    found: dict[str, TeacherEntry] = {}
    for entry in manifest.of_split("train"):
        found.setdefault(entry.task, entry)
    return found


def mixed_teachers(
    run: RunFolder,
    manifest: Manifest,
    pairs: Sequence[Pair],
    optim: TeacherOptim,
    model: nn.Module,
    tokenizer: Any,
) -> LoRAWeights:
    """Train one adapter a pair on the examples of both tasks' first teachers, or load it.

    It has twice the steps of one teacher, so it sees as many examples of either task, and starts
    from the A that the teachers share.

    Args:
        run: folder of the run; adapters are kept in `composition/`.
        manifest: its teachers.
        pairs: tasks, two by two.
        optim: settings of one teacher.
        model: the loaded base.
        tokenizer: of the base.

    Returns:
        n = pairs, on the CPU.
    """
    firsts = first_teachers(manifest)
    folders = [run.root / "composition" / "+".join(pair) for pair in pairs]
    missing = [i for i, folder in enumerate(folders) if not (folder / "COMPLETE").exists()]
    if missing:
        spec = manifest.load(run.checkpoints, [firsts[pairs[0][0]]]).spec
        shards = [_shard(run, firsts, pairs[i]) for i in missing]
        trained = _train(spec, shards, manifest, optim, model, tokenizer)
        for index, weights in zip(missing, trained, strict=True):
            save_adapter(
                weights,
                folders[index],
                base_model_name=manifest.base_model,
                base_fingerprint=manifest.base_fingerprint,
                extra_files={"COMPLETE": ""},
            )
    return LoRAWeights.concatenate([load_adapter(folder) for folder in folders])


def _shard(run: RunFolder, firsts: dict[str, TeacherEntry], pair: Pair) -> Shard:
    examples: list[Example] = []
    for task in pair:
        prompts, answers = read_prompts(run.checkpoints / firsts[task].path)
        examples += [Example(p, (a,), 0) for p, a in zip(prompts, answers, strict=True)]
    name = "+".join(pair)
    return Shard(name, name, name, "train", tuple(examples))


def _train(
    spec: LoRASpec,
    shards: list[Shard],
    manifest: Manifest,
    optim: TeacherOptim,
    model: nn.Module,
    tokenizer: Any,
) -> Iterator[LoRAWeights]:
    """Train one after another: their batches may be twice as long as those of one task."""
    seed = int(manifest.settings["seed"])
    generator = torch.Generator().manual_seed(seed)
    initial = LoRAWeights.initial(spec, 1, generator)
    longer = replace(optim, steps=2 * optim.steps)
    bar = tqdm(total=len(shards) * longer.steps, desc="mixed teachers", unit="step", mininterval=1)
    with bar:
        for shard in shards:
            teachers = BatchedTeachers(model, tokenizer, [shard], initial, longer, seed)
            for _ in range(longer.steps):
                teachers.train_step()
                bar.update()
            yield teachers.weights.to("cpu")
