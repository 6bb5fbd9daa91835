"""Multiple choice by log-likelihood: one forward of a question serves all its choices."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from llgbm.deltas.errors import TaskError
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.log_likelihood import branch_log_likelihoods
from llgbm.deltas.packing import TokenTree, pack
from llgbm.deltas.spec import device_of
from llgbm.deltas.task import Example
from llgbm.deltas.tokenizers import cut_left
from llgbm.deltas.weights import LoRAWeights

Normalization = Literal["characters", "tokens", "none"]
# Tokens of one forward, all adapters together.
TOKENS_PER_FORWARD = {"cpu": 4096, "cuda": 65536}


@dataclass(frozen=True)
class ChoiceScores:
    """Log-likelihoods of choices.

    Attributes:
        log_likelihood: [n, e, c] float32, summed over a choice's tokens; -inf beyond an
            example's last choice.
        characters: [e, c] float32, length of a choice without its leading space.
        tokens: [e, c] float32.
        gold: [e] int64.
    """

    log_likelihood: Tensor
    characters: Tensor
    tokens: Tensor
    gold: Tensor

    def predictions(self, normalization: Normalization = "characters") -> Tensor:
        """Index of the likeliest choice, [n, e]; per character by default (acc_norm)."""
        return self._scores(normalization).argmax(-1)

    def right_choice(self, normalization: Normalization = "characters") -> Tensor:
        """Log-likelihood of the right choice among all of an example, [n, e], nats."""
        among = self._scores(normalization).log_softmax(-1)
        return among.gather(2, self.gold.expand(len(among), -1)[..., None])[..., 0]

    def correct(self, normalization: Normalization = "characters") -> Tensor:
        """Whether the likeliest choice is the right one, [n, e] bool."""
        return self.predictions(normalization) == self.gold

    def _scores(self, normalization: Normalization) -> Tensor:
        lengths = {"characters": self.characters, "tokens": self.tokens}.get(normalization)
        return self.log_likelihood if lengths is None else self.log_likelihood / lengths


def encode_examples(
    tokenizer: Any, examples: Sequence[Example], max_tokens: int = 512
) -> list[TokenTree]:
    """Tokenize queries as trunks and choices as branches.

    A query that is too long loses its beginning, since the question stands at its end; the
    token that opens a text (Gemma's BOS) stays.

    Raises:
        TaskError: an example with fewer than two choices, or with a text of no tokens.
    """
    trees = []
    for index, example in enumerate(examples):
        if len(example.choices) < 2:
            raise TaskError(
                f"example {index}: choices: expected at least 2 to score, got {example.choices}"
            )
        branches = tuple(
            tuple(tokenizer(choice, add_special_tokens=False)["input_ids"])
            for choice in example.choices
        )
        trunk = tokenizer(example.query)["input_ids"]
        if not trunk or not all(branches):
            # Without a token before it a choice has no likelihood; without one of its own, none
            # to compare.
            raise TaskError(
                f"example {index}: expected a query and choices of at least one token, got "
                f"{example.query!r} and {example.choices}"
            )
        trees.append(TokenTree(cut_left(trunk, max_tokens, tokenizer), branches))
    return trees


@torch.no_grad()
def score_choices(
    model: nn.Module,
    tokenizer: Any,
    examples: Sequence[Example],
    weights: LoRAWeights | None = None,
    tokens_per_forward: int = 0,
    progress: tqdm | None = None,
) -> ChoiceScores:
    """Score every choice of every example under n adapters, many of them a forward.

    Args:
        model: frozen base.
        tokenizer: of the base.
        examples: e of them.
        weights: n adapters; the base alone (n = 1) where None.
        tokens_per_forward: largest forward; by device where 0.
        progress: bar that counts examples.

    Raises:
        TaskError: no examples, one with fewer than two choices, or with a text of no tokens.
    """
    if not examples:
        raise TaskError("examples: expected at least one to score, got none")
    device = device_of(model)
    limit = tokens_per_forward or TOKENS_PER_FORWARD.get(device.type, 4096)
    trees = encode_examples(tokenizer, examples)
    n = 1 if weights is None else weights.n
    lora = None if weights is None else FunctionalLoRA(model, weights.spec)
    widest = max(len(example.choices) for example in examples)
    scores = torch.full((n, len(examples), widest), -torch.inf)
    for indices in _slices(trees, limit, n):
        packed = pack([[trees[index] for index in indices]]).repeat(n)
        running = nullcontext() if lora is None else lora.applied(weights)  # type: ignore[arg-type]
        with running:
            sums = branch_log_likelihoods(model, packed).view(n, -1).cpu()
        column = 0
        for index in indices:
            count = len(examples[index].choices)
            scores[:, index, :count] = sums[:, column : column + count]
            column += count
        if progress is not None:
            progress.update(len(indices))
    return ChoiceScores(
        scores,
        _table([[len(choice.lstrip()) for choice in e.choices] for e in examples], widest),
        _table([[len(branch) for branch in tree.branches] for tree in trees], widest),
        torch.tensor([example.gold for example in examples]),
    )


def _slices(trees: Sequence[TokenTree], limit: int, n: int) -> list[list[int]]:
    """Examples of like length together, at most `limit` tokens with n adapters."""
    slices: list[list[int]] = [[]]
    used = 0
    for index in sorted(range(len(trees)), key=lambda i: len(trees[i])):
        if slices[-1] and (used + len(trees[index])) * n > limit:
            slices.append([])
            used = 0
        slices[-1].append(index)
        used += len(trees[index])
    return slices


def _table(rows: Sequence[Sequence[int]], width: int) -> Tensor:
    """Ragged counts as [rows, width] float32, 1 where there is nothing to divide by."""
    return torch.tensor([[*map(float, row), *[1.0] * (width - len(row))] for row in rows])
