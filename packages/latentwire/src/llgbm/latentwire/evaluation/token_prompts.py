"""Prompts as token ids, which the reader looks up itself: the text that latents are held against.

The reader's own embedding lookup runs here, apart from the path on which vectors are handed in;
that both agree is shown by the row `replay_raw` (anchor rule 20).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llgbm.deltas.next_tokens import next_token_logits
from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.evaluation.prompts import Prompts
from llgbm.latentwire.generation import (
    DecodingConfig,
    Written,
    wait_for_device,
    write_on,
)
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import Scored, cache_of


class TokenPrompts(Prompts):
    """Token ids of whole prompts; the tokenizer's opening is put before each.

    Args:
        reader: that reads them.
        ids: b lists of token ids.
        slots: how many tokens of each context are left.
        encode_seconds: what it took to choose them.

    Raises:
        PromptError: an empty prompt, or one longer than the reader's context.
    """

    def __init__(
        self,
        reader: Reader,
        ids: Sequence[Sequence[int]],
        slots: Sequence[int],
        encode_seconds: float = 0.0,
    ) -> None:
        self.ids = [[*reader.opening, *row] for row in ids]
        _check_lengths(reader, self.ids)
        super().__init__(reader, slots, [len(row) for row in self.ids], encode_seconds)

    @torch.no_grad()
    def write(self, decoding: DecodingConfig) -> Written:
        """See `Prompts.write`."""
        reader = self.reader
        ids, mask = padded(reader, self.ids, "left")
        cache = cache_of(reader)
        wait_for_device(reader)
        begin = time.perf_counter()
        state = _states(reader, ids, mask, cache)[:, -1]
        wait_for_device(reader)
        middle = time.perf_counter()

        def advance(chosen: Tensor, mask: Tensor) -> Tensor:
            return _states(reader, chosen[:, None], mask, cache)[:, -1]

        written = write_on(reader, state, mask, advance, decoding)
        wait_for_device(reader)
        texts = [reader.text_of(tokens) for tokens in written]
        return Written(texts, written, middle - begin, time.perf_counter() - middle)

    @torch.no_grad()
    def score(self, answers: Sequence[Sequence[int]]) -> Scored:
        """See `Prompts.score`.

        Raises:
            PromptError: a prompt with its answer is longer than the reader's context.
        """
        reader = self.reader
        whole = [[*row, *answer] for row, answer in zip(self.ids, answers, strict=True)]
        _check_lengths(reader, whole)
        ids, mask = padded(reader, whole, "right")
        states = _states(reader, ids, mask)
        where = [
            # A token is predicted by the one before it.
            (index, step, len(self.ids[index]) - 1 + step)
            for index, answer in enumerate(answers)
            for step in range(len(answer))
        ]
        row, step, place = torch.tensor(where, device=reader.device).T
        hidden = states[row, place]
        return Scored(
            next_token_logits(reader.model, hidden), ids[row, place + 1], row, step, hidden.float()
        )


def padded(reader: Reader, rows: Sequence[Sequence[int]], side: str) -> tuple[Tensor, Tensor]:
    """Token ids [b, t] int64 and mask [b, t] bool by length, padded on one side."""
    device = reader.device
    ids = [torch.tensor(list(row), dtype=torch.long, device=device) for row in rows]
    mask = [torch.ones(len(row), dtype=torch.bool, device=device) for row in rows]
    return pad_sequence(ids, True, reader.pad, side), pad_sequence(mask, True, False, side)


def _states(reader: Reader, ids: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
    """Last hidden states [b, t, h] of ids [b, t], which stand at the end of mask [b, all]."""
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    output = reader.model.get_decoder()(
        input_ids=ids,
        attention_mask=mask.long(),
        position_ids=positions,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    return output.last_hidden_state


def _check_lengths(reader: Reader, rows: Sequence[Sequence[int]]) -> None:
    for number, row in enumerate(rows, 1):
        if not 1 <= len(row) <= reader.limit:
            raise PromptError(
                f"prompt {number}: expected 1 to {reader.limit} tokens, got {len(row)}"
            )
