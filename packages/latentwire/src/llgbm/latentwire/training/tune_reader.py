"""`llgbm-latentwire tune-reader`: teach a weak reader to answer from full text, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from llgbm.deltas import atomic
from llgbm.deltas.environment import environment
from llgbm.deltas.errors import RunError, SettingError, require_at_least, require_seed
from llgbm.latentwire.data.order import drawn
from llgbm.latentwire.data.squad import load_squad
from llgbm.latentwire.examples import Example, check_examples
from llgbm.latentwire.lora_parameters import LoRAParameters
from llgbm.latentwire.prefix import replayed
from llgbm.latentwire.reader import Reader, load_reader
from llgbm.latentwire.reader_files import check_replaceable, save_reader
from llgbm.latentwire.scoring import score
from llgbm.latentwire.training.schedule import learning_rate_factor

TUNING = "tuning.json"


@dataclass(frozen=True)
class TuneReaderConfig:
    """Tune a reader on full-text questions of the training articles; it is frozen ever after.

    Args:
        out: folder of the tuned reader, which `--reader` then names.
        model: base model's name, folder or hub id.
        steps: optimiser steps.
        batch_size: questions of a step.
        lr: highest learning rate; it warms up over a tenth of the steps and falls to a tenth.
        r: LoRA rank; the adapter is merged into the weights at the end.
        lora_alpha: LoRA alpha.
        seed: of the order of questions and the start.
        overwrite: make it anew where `out` exists.
    """

    out: Path
    model: str = "smollm2-135m"
    steps: int = 80
    batch_size: int = 12
    lr: float = 6e-4
    r: int = 16
    lora_alpha: float = 32.0
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, steps=self.steps, batch_size=self.batch_size, r=self.r)
        require_at_least(0, lr=self.lr, lora_alpha=self.lora_alpha)
        if self.lr > 1:
            raise SettingError(f"lr: expected at most 1, got {self.lr:g}")
        require_seed(self.seed)


def tune_reader(config: TuneReaderConfig) -> Path:
    """Tune, merge, write; return the folder.

    Raises:
        RunError: the folder exists, or holds what is no reader's.
        ModelError: the model cannot be loaded.
    """
    check_replaceable(config.out, config.overwrite)
    reader = load_reader(config.model)
    losses = tune(reader, [question.example for question in load_squad("train")], config)
    with atomic.folder(config.out) as folder:
        save_reader(reader, folder)
        description: dict[str, Any] = {
            "base": config.model,
            "steps": config.steps,
            "batch_size": config.batch_size,
            "lr": config.lr,
            "r": config.r,
            "lora_alpha": config.lora_alpha,
            "losses": [round(loss, 4) for loss in losses],
            "environment": environment(config.seed, reader.device, reader.dtype),
        }
        atomic.write_json(folder / TUNING, description)
    print(f"{config.out}: a reader tuned on full text; pass it as --reader or reader=...")
    return config.out


def tune(reader: Reader, examples: Sequence[Example], config: TuneReaderConfig) -> list[float]:
    """Train a LoRA on answers after full text and add it to the reader's weights, in place.

    Args:
        reader: whose weights are changed once, at the end.
        examples: with text contexts.
        config: settings.

    Returns:
        Loss of every step, nats a token.

    Raises:
        RunError: a loss that is not finite.
    """
    check_examples(examples)
    torch.manual_seed(config.seed)
    lora = LoRAParameters(reader, config.r, config.lora_alpha)
    optimizer = torch.optim.AdamW(lora.parameters(), lr=config.lr, weight_decay=0.0, fused=True)
    losses = []
    bar = tqdm(range(config.steps), desc="tune reader", unit="step", mininterval=1.0)
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = config.lr * learning_rate_factor(step, config.steps, 0.1)
        batch = drawn(examples, config.batch_size, step, config.seed)
        with lora.applied():
            scored = score(
                reader,
                replayed(reader, [reader.tokens(example.context) for example in batch]),
                [reader.tokens(example.ending) for example in batch],
                [reader.answer_tokens(example.answer) for example in batch],
            )
            loss = scored.nll.mean()
            if not torch.isfinite(loss):
                raise RunError("tune reader: expected a finite loss, got NaN or Inf: lower lr")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(lora.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
        bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
    merge(reader, lora)
    return losses


@torch.no_grad()
def merge(reader: Reader, lora: LoRAParameters) -> None:
    """Add scaling * B A to every adapted weight of the reader."""
    modules = dict(reader.model.named_modules())
    weights = lora.weights
    for module in lora.spec.modules:
        update = weights.lora_B[module.path][0] @ weights.lora_A[module.path][0]
        target = modules[module.path].weight
        target.copy_(target.float() + lora.spec.scaling * update)
    reader.__dict__.pop("fingerprint", None)
