"""A batch of texts as a reader's token ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.reader import Reader


def padded_tokens(reader: Reader, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids [b, t] int64 and their mask [b, t] bool, each text after the reader's opening.

    Raises:
        PromptError: a text without tokens, or with more than the reader can read.
    """
    rows = [[*reader.opening, *reader.tokens(text)] for text in texts]
    longest = max(map(len, rows))
    if not min(map(len, rows)) or longest > reader.limit:
        raise PromptError(f"text: expected 1 to {reader.limit} tokens, got {longest}")
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = torch.tensor(row)
        mask[place, : len(row)] = True
    return ids.to(reader.device), mask.to(reader.device)
