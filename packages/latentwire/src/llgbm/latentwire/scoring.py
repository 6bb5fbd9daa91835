"""Teacher-forced answers: what the reader says of each token of a given answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from llgbm.deltas.next_tokens import next_token_logits
from llgbm.latentwire.prefix import Prefix
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.rows import IGNORED, build_rows


@dataclass(frozen=True)
class Scored:
    """Predictions of b answers, s tokens in all, answer after answer.

    Attributes:
        logits: [s, vocabulary] float32.
        targets: [s] int64, the answers' tokens.
        row: [s] int64, which answer.
        step: [s] int64, which token of it; 0 is the first.
        hidden: [s, h] float32, last hidden states that the logits come from.
        layers: hidden states [s, h] after each decoder layer; empty where not asked.
    """

    logits: Tensor
    targets: Tensor
    row: Tensor
    step: Tensor
    hidden: Tensor
    layers: tuple[Tensor, ...] = ()

    @property
    def nll(self) -> Tensor:
        """[s] nats of every token."""
        return cross_entropy(self.logits, self.targets, reduction="none")


def score(
    reader: Reader,
    prefix: Prefix,
    endings: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]],
    marks: Tensor | None = None,
    all_layers: bool = False,
) -> Scored:
    """Score answers after [opening | prefix | mark | ending]; differentiable in the prefix.

    Args:
        reader: frozen.
        prefix: b prefixes.
        endings: b lists of token ids.
        answers: b lists of token ids, none empty.
        marks: [b, k, h] vectors after the prefix.
        all_layers: keep the hidden states after every layer too.
    """
    rows = build_rows(reader, prefix, endings, answers, marks)
    output = decode(reader, rows.embeds, rows.mask, prefix, all_layers=all_layers)
    # The token at t is predicted at t - 1; a row never begins with its answer, unless nothing at
    # all stands before it, and then its first token cannot be scored.
    where = (rows.labels[:, 1:] != IGNORED).nonzero(as_tuple=True)
    hidden = output.last_hidden_state[:, :-1][where]
    targets = rows.labels[:, 1:][where]
    row = where[0]
    first = torch.searchsorted(row, row)
    step = torch.arange(len(row), device=row.device) - first
    layers: tuple[Tensor, ...] = ()
    if all_layers:
        layers = tuple(each[:, :-1][where].float() for each in output.hidden_states[1:])
    logits = next_token_logits(reader.model, hidden)
    return Scored(logits, targets, row, step, hidden.float(), layers)


def decode(
    reader: Reader,
    embeds: Tensor,
    mask: Tensor,
    prefix: Prefix | None = None,
    cache: Any = None,
    all_layers: bool = False,
    shift: int = 0,
) -> Any:
    """Run the decoder body on rows, after a prefix of keys and values where there is one.

    Args:
        reader: frozen.
        embeds: [b, t, h] in the reader's dtype.
        mask: [b, t] bool.
        prefix: its keys and values come first; its embeddings are already in the rows.
        cache: a `Cache` to write to, already holding the prefix; made here where None and needed.
        all_layers: return hidden states after every layer.
        shift: position of the first token.
    """
    behind = None if prefix is None else prefix.cache_mask
    if cache is None and behind is not None and prefix is not None:
        cache = cache_of(reader, prefix)
    whole = mask if behind is None else torch.cat([behind, mask], dim=1)
    positions = (whole.long().cumsum(1) - 1).clamp(min=0)[:, -mask.shape[1] :] + shift
    return reader.model.get_decoder()(
        inputs_embeds=embeds,
        attention_mask=whole.long(),
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
        output_hidden_states=all_layers,
    )


def cache_of(reader: Reader, prefix: Prefix | None = None) -> Any:
    """A fresh cache, holding the prefix's keys and values where it has any here; else counting."""
    from transformers import DynamicCache

    if prefix is not None and prefix.elsewhere:
        from llgbm.latentwire.counting_cache import counting_cache

        assert prefix.cache_mask is not None
        return counting_cache(reader.layers, prefix.cache_mask.shape[1])
    cache = DynamicCache(config=reader.model.config)
    for layer, (keys, values) in enumerate(prefix.keys_values if prefix else ()):
        cache.update(keys.to(reader.dtype), values.to(reader.dtype), layer)
    return cache
