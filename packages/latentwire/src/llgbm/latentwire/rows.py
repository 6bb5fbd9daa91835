"""Rows for a reader: opening, prefix, ending and answer side by side, padded, with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.prefix import Prefix
from llgbm.latentwire.reader import Reader

IGNORED = -100


@dataclass(frozen=True)
class Rows:
    """Padded rows of input embeddings.

    Attributes:
        embeds: [b, t, h] in the reader's dtype.
        mask: [b, t] bool, by length and never by token id (anchor rule 2).
        labels: [b, t] int64: the answer's tokens where they stand; -100 elsewhere.
    """

    embeds: Tensor
    mask: Tensor
    labels: Tensor


def build_rows(
    reader: Reader,
    prefix: Prefix,
    endings: Sequence[Sequence[int]],
    answers: Sequence[Sequence[int]] | None = None,
    marks: Tensor | None = None,
    padding_side: str = "right",
) -> Rows:
    """Lay out [opening | prefix | mark | ending | answer] for every text.

    Args:
        reader: whose embeddings stand for tokens.
        prefix: b prefixes.
        endings: b lists of token ids.
        answers: b lists of token ids; none where the reader is to write them.
        marks: [b, k, h], k vectors after the prefix; none where None.
        padding_side: `right` for scoring, `left` for writing.

    Raises:
        PromptError: a row is empty, or longer than the reader's context.
    """
    device = reader.device
    answers = answers if answers is not None else [[] for _ in endings]
    opening = reader.embed(torch.tensor(reader.opening, dtype=torch.long, device=device))
    rows, labels = [], []
    for index, (ending, answer) in enumerate(zip(endings, answers, strict=True)):
        tail = torch.tensor([*ending, *answer], dtype=torch.long, device=device)
        parts = [opening, prefix.embeds[index, prefix.mask[index]].to(reader.dtype)]
        if marks is not None:
            parts.append(marks[index].to(reader.dtype))
        parts.append(reader.embed(tail))
        row = torch.cat(parts)
        behind = 0 if prefix.cache_mask is None else int(prefix.cache_mask[index].sum())
        if len(row) == 0 or len(row) + behind > reader.limit:
            raise PromptError(
                f"prompt {index + 1}: expected 1 to {reader.limit} tokens and slots, "
                f"got {len(row) + behind}"
            )
        label = torch.full((len(row),), IGNORED, device=device)
        if len(answer):
            label[len(row) - len(answer) :] = tail[len(ending) :]
        rows.append(row)
        labels.append(label)
    lengths = [torch.ones(len(row), dtype=torch.bool, device=device) for row in rows]
    return Rows(
        pad_sequence(rows, True, 0.0, padding_side),
        pad_sequence(lengths, True, False, padding_side),
        pad_sequence(labels, True, IGNORED, padding_side),
    )
