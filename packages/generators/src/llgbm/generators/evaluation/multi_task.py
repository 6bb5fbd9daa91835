"""The multi-task baseline: one LoRA trained on the examples of all training teachers."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from llgbm.deltas.atomic import save_tensors
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.json_files import read_json
from llgbm.deltas.peft_format import load_adapter, save_adapter
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.task import Example
from llgbm.deltas.tensor_state import read_tensors
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.dataset import read_prompts
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.batched import BatchedTeachers, TeacherOptim
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.teachers.shards import Shard

NAME, SETTINGS = "multi_task", "baseline.json"
SAVE_EVERY = 20


def multi_task_adapter(
    run: RunFolder,
    manifest: Manifest,
    spec: LoRASpec,
    model: nn.Module,
    tokenizer: Any,
    factor: int,
) -> LoRAWeights:
    """Train the adapter, or load it where the run has it; an interrupted one goes on.

    It sees what the training teachers saw, drawn from one shuffled pile, with their optimiser
    and the examples of `factor` teachers' steps.

    Args:
        run: its folder; the adapter is kept in `baselines/multi_task`.
        manifest: its teachers and their settings.
        spec: of the teachers.
        model: frozen base.
        tokenizer: of the base.
        factor: optimiser steps, in those of one teacher.

    Returns:
        n = 1, on the CPU.

    Raises:
        RunError: the manifest does not say how its teachers were trained, or prompts are missing.
    """
    folder = run.root / "baselines" / NAME
    entries = manifest.of_split("train")
    optim = _optim(run, manifest, factor)
    seed = int(manifest.settings["seed"])
    key = text_fingerprint(
        {"teachers": [e.fingerprint for e in entries], "factor": factor, "steps": optim.steps}
    )
    kept = read_json(folder / SETTINGS, RunError) if (folder / SETTINGS).exists() else {}
    if kept.get("key") == key:
        return load_adapter(folder)
    examples: list[Example] = []
    for entry in entries:
        prompts, answers = read_prompts(run.checkpoints / entry.path)
        examples += [Example(p, (a,), 0) for p, a in zip(prompts, answers, strict=True)]
    start = LoRAWeights.initial(spec, 1, torch.Generator().manual_seed(seed))
    shard = Shard(NAME, NAME, NAME, "train", tuple(examples))
    teachers = BatchedTeachers(model, tokenizer, [shard], start, optim, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    state = folder.with_name(f".{NAME}-{key[:12]}.safetensors")
    if state.exists():
        teachers.load_state(read_tensors(state))
    with tqdm(
        total=optim.steps, initial=teachers.step, desc=NAME, unit="step", mininterval=1.0
    ) as bar:
        while teachers.step < optim.steps:
            losses, _ = teachers.train_step()
            bar.update()
            bar.set_postfix(loss=f"{losses[0]:.3f}", refresh=False)
            if teachers.step % SAVE_EVERY == 0 and teachers.step < optim.steps:
                save_tensors(state, teachers.state())
    weights = teachers.weights.to("cpu")
    weights.check_finite(NAME)
    save_adapter(
        weights,
        folder,
        base_model_name=manifest.base_model,
        base_fingerprint=manifest.base_fingerprint,
        extra_files={SETTINGS: json.dumps({"key": key, "examples": len(examples)})},
    )
    state.unlink(missing_ok=True)
    return weights


def _optim(run: RunFolder, manifest: Manifest, factor: int) -> TeacherOptim:
    """The teachers' optimiser with `factor` times its steps."""
    try:
        settings = dict(manifest.settings["optim"])
        return TeacherOptim(**{**settings, "steps": factor * int(settings["steps"])})
    except (KeyError, TypeError) as error:
        raise RunError(
            mismatch(run.manifest, "settings", "the teachers' optimiser", f"none ({error})")
        ) from error
