"""One batched forward and backward through the frozen base trains n adapters independently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llgbm.deltas.errors import SettingError, require_at_least
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.next_tokens import next_token_logits
from llgbm.deltas.packing import PackedBatch, pack
from llgbm.deltas.sliding_window import layer_masks
from llgbm.deltas.spec import LoRASpec, device_of
from llgbm.deltas.tensor_state import load_training_state, training_state
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.teachers.shards import Shard, answered


@dataclass(frozen=True)
class TeacherOptim:
    """How one teacher is optimised.

    Args:
        steps: optimiser steps.
        examples_per_step: examples of each teacher in a step.
        lr: peak learning rate.
        warmup_steps: linear warm-up, at most all steps; then linear decay to `final_lr_share` of
            `lr`.
        final_lr_share: share of `lr` at the last step, from 0 to 1.
        weight_decay: of AdamW.
        clip_norm: largest gradient norm of one adapter; 0 clips nothing.
        max_tokens: longest query + answer.
    """

    steps: int = 40
    examples_per_step: int = 16
    lr: float = 1e-3
    warmup_steps: int = 3
    final_lr_share: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    max_tokens: int = 256

    def __post_init__(self) -> None:
        require_at_least(1, steps=self.steps, examples_per_step=self.examples_per_step)
        require_at_least(2, max_tokens=self.max_tokens)
        require_at_least(0, lr=self.lr, warmup_steps=self.warmup_steps, clip_norm=self.clip_norm)
        require_at_least(0, weight_decay=self.weight_decay)
        if self.warmup_steps > self.steps:
            expected = f"at most the {self.steps} steps"
            raise SettingError(f"warmup_steps: expected {expected}, got {self.warmup_steps}")
        if not 0 <= self.final_lr_share <= 1:
            raise SettingError(f"final_lr_share: expected 0 to 1, got {self.final_lr_share:g}")

    def lr_at(self, step: int) -> float:
        """Learning rate of step `step`, counted from 0."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        left = (self.steps - step) / max(1, self.steps - self.warmup_steps)
        return self.lr * (self.final_lr_share + (1 - self.final_lr_share) * left)


class BatchedTeachers:
    """n adapters, their AdamW state and their data streams.

    AdamW works element by element and each adapter's loss reaches its own factors alone, so
    one optimiser over the stacked factors is n independent ones.

    Args:
        model: frozen base.
        tokenizer: of the base.
        shards: n shards.
        initial: n adapters to start from.
        optim: settings.
        seed: of the data order.
        lr_scale: learning rate of every adapter as a multiple of `optim.lr`; 1 where None.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        shards: Sequence[Shard],
        initial: LoRAWeights,
        optim: TeacherOptim,
        seed: int,
        lr_scale: Sequence[float] | None = None,
    ) -> None:
        if initial.n != len(shards):
            raise ValueError(f"initial: expected {len(shards)} adapters, got {initial.n}")
        if lr_scale is not None and len(lr_scale) != len(shards):
            raise ValueError(f"lr_scale: expected {len(shards)} numbers, got {len(lr_scale)}")
        self.model, self.tokenizer, self.shards = model, tokenizer, list(shards)
        self.optim, self.seed = optim, seed
        self.spec: LoRASpec = initial.spec
        self.step = 0
        device = device_of(model)
        self._parameters = initial.map(
            lambda factor: nn.Parameter(factor.detach().to(device, torch.float32).clone())
        )
        self._lora = FunctionalLoRA(model, self.spec)
        self._lr_scale = None if lr_scale is None else torch.tensor(lr_scale, device=device)
        self.optimizer = torch.optim.AdamW(
            self._factors(), lr=optim.lr, weight_decay=optim.weight_decay, fused=True
        )

    @property
    def weights(self) -> LoRAWeights:
        """The adapters as they stand, detached."""
        return self._parameters.detach()

    def _factors(self) -> list[Tensor]:
        parameters = self._parameters
        return [
            factor
            for path in self.spec.paths
            for factor in (parameters.lora_A[path], parameters.lora_B[path])
        ]

    def batch(self, step: int) -> PackedBatch:
        """Pack the examples of every teacher for `step`."""
        size, longest = self.optim.examples_per_step, self.optim.max_tokens
        trees = [
            answered(self.tokenizer, shard.batch(step, size, self.seed), longest)
            for shard in self.shards
        ]
        return pack(trees)

    def train_step(self) -> tuple[Tensor, PackedBatch]:
        """Take one step; return the losses [n] float32 (nats an answer token) and the batch."""
        batch = self.batch(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = self.optim.lr_at(self.step)
        self.optimizer.zero_grad(set_to_none=True)
        losses = answer_losses(self.model, self._lora, self._parameters, batch)
        losses.sum().backward()
        self._clip()
        self._optimizer_step()
        self.step += 1
        return losses.detach(), batch

    def _optimizer_step(self) -> None:
        """Step; AdamW's step, decay included, is in proportion to the learning rate."""
        if self._lr_scale is None:
            self.optimizer.step()
            return
        before = [factor.detach().clone() for factor in self._factors()]
        self.optimizer.step()
        with torch.no_grad():
            for factor, old in zip(self._factors(), before, strict=True):
                factor.sub_(old).mul_(self._lr_scale[:, None, None]).add_(old)

    def _clip(self) -> None:
        """Scale each adapter's gradient, not the whole batch's, down to `clip_norm`."""
        if not self.optim.clip_norm:
            return
        gradients = [factor.grad for factor in self._factors() if factor.grad is not None]
        squares = torch.stack([gradient.square().sum((1, 2)) for gradient in gradients])
        norms = squares.sum(0).sqrt()
        scale = (self.optim.clip_norm / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale[:, None, None])

    def state(self) -> dict[str, Tensor]:
        """Everything that a bitwise resume needs, as flat tensors."""
        return {
            "step": torch.tensor(self.step),
            **training_state(self.optimizer, self._factors()),
        }

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Take up the state that `state` gave."""
        self.step = int(tensors["step"])
        load_training_state(tensors, self.optimizer, self._factors())


def answer_losses(
    model: nn.Module, lora: FunctionalLoRA, weights: LoRAWeights, batch: PackedBatch
) -> Tensor:
    """Mean cross-entropy of each adapter's answer tokens, [n] float32, in nats."""
    device = device_of(model)
    moved = batch.to(device)
    body: Any = model.get_decoder()  # type: ignore[operator]
    with lora.applied(weights, rows=batch.rows_per_adapter):
        hidden = body(
            input_ids=moved.input_ids,
            position_ids=moved.position_ids,
            attention_mask=layer_masks(model, moved),
            use_cache=False,
        ).last_hidden_state
    # The head is a third of a small model's work: it runs on the scored positions alone.
    logits = next_token_logits(model, hidden.flatten(0, 1)[moved.source])
    losses = F.cross_entropy(logits, moved.target, reduction="none")
    row_tokens = batch.input_ids.shape[1]
    rows = torch.tensor(batch.rows_per_adapter)
    owner_of_row = torch.arange(len(rows)).repeat_interleave(rows).to(device)
    owner = owner_of_row[moved.source // row_tokens]
    totals = torch.zeros(weights.n, device=device).index_add(0, owner, losses)
    counts = torch.bincount(owner, minlength=weights.n).clamp(min=1)
    return totals / counts
