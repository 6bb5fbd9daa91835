"""Greedy answers of many adapters to many queries at once, with a key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.base_models import decoder_body
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights


@torch.no_grad()
def greedy_answers(
    model: nn.Module,
    tokenizer: Any,
    queries: Sequence[str],
    weights: LoRAWeights,
    max_new_tokens: int = 12,
    rows_at_once: int = 64,
) -> list[list[str]]:
    """Continue every query greedily under every adapter, up to the end of its line.

    Queries are padded on the left, so that all rows grow at the same end; a row's positions
    count its own tokens only.

    Args:
        model: frozen base.
        tokenizer: of the base.
        queries: e texts.
        weights: n adapters of one spec.
        max_new_tokens: at most so many.
        rows_at_once: sequences of a forward, at least one adapter's.

    Returns:
        [n][e] texts, without the white space around them.
    """
    ids, mask = _left_padded(tokenizer, queries)
    ids, mask = ids.to(device_of(model)), mask.to(device_of(model))
    weights = weights.to(device_of(model))
    lora = FunctionalLoRA(model, weights.spec)
    at_once = max(1, rows_at_once // len(queries))
    answers: list[list[str]] = []
    for start in range(0, weights.n, at_once):
        part = weights.select(slice(start, start + at_once))
        with lora.applied(part):
            tokens = _decode(
                model, ids.repeat(part.n, 1), mask.repeat(part.n, 1), max_new_tokens
            ).view(part.n, len(queries), -1)
        answers += [[_line(tokenizer, row) for row in adapter] for adapter in tokens.tolist()]
    return answers


def _left_padded(tokenizer: Any, queries: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids and mask [e, t], real tokens on the right."""
    rows = [tokenizer(query)["input_ids"] for query in queries]
    longest = max(map(len, rows))
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for place, row in enumerate(rows):
        ids[place, longest - len(row) :] = torch.tensor(row)
        mask[place, longest - len(row) :] = 1
    return ids, mask


def _decode(model: nn.Module, ids: Tensor, mask: Tensor, max_new_tokens: int) -> Tensor:
    """The likeliest next tokens one after the other, [rows, max_new_tokens]."""
    body = decoder_body(model)
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    cache = None
    # Padding may have any position: nothing real looks at it.
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    made = []
    while True:
        output = body(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        # Two axes: a product with a slice of three copies the head's weight for every row.
        ids = head(output.last_hidden_state[:, -1]).float().argmax(-1, keepdim=True)
        made.append(ids)
        if len(made) == max_new_tokens:
            return torch.cat(made, dim=1)
        cache = output.past_key_values
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)


def _line(tokenizer: Any, tokens: list[int]) -> str:
    """Text of an answer up to the token that ends texts, or to the end of its first line."""
    if tokenizer.eos_token_id in tokens:
        tokens = tokens[: tokens.index(tokenizer.eos_token_id)]
    lines = tokenizer.decode(tokens, skip_special_tokens=True).strip().splitlines()
    return lines[0].strip() if lines else ""
