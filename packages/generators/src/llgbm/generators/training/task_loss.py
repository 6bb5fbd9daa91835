"""The task loss of generated adapters: answers from each item's own training examples."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.packing import PackedBatch, pack
from llgbm.deltas.task import Example
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.dataset import TeacherBatch, TeacherPrompts
from llgbm.generators.teachers.batched import answer_losses
from llgbm.generators.teachers.shards import answered


class TaskExamples:
    """Draws examples for the items of a step; a pure function of (seed, position of the item).

    Args:
        model: frozen base.
        tokenizer: of the base.
        sources: prompts and answers of each teacher.
        examples: drawn for each item.
        max_tokens: longest query + answer.
        seed: of the draws.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        sources: Sequence[TeacherPrompts],
        examples: int,
        max_tokens: int,
        seed: int,
    ) -> None:
        self.model, self.tokenizer, self.sources = model, tokenizer, list(sources)
        self.examples, self.max_tokens, self.seed = examples, max_tokens, seed

    def packed(self, batch: TeacherBatch) -> PackedBatch:
        """Pack the examples of every item."""
        trees = []
        for index, position in zip(batch.indices, batch.positions, strict=True):
            source = self.sources[index]
            rng = random.Random(f"{self.seed}:sft:{position}")
            chosen = rng.sample(range(len(source.prompts)), min(self.examples, len(source.prompts)))
            drawn = [Example(source.prompts[i], (source.answers[i],), 0) for i in chosen]
            trees.append(answered(self.tokenizer, drawn, self.max_tokens))
        return pack(trees)

    def loss(self, weights: LoRAWeights, batch: TeacherBatch) -> Tensor:
        """Mean cross-entropy of each item's answers under its adapter, [n] float32, in nats."""
        lora = FunctionalLoRA(self.model, weights.spec)
        return answer_losses(self.model, lora, weights, self.packed(batch))
