"""Text as the reader itself would code it: the shortest that its own knowledge makes a text.

`predicted_bits` is the ideal length, from one forward. `encode_text` writes it in earnest and
`decode_text` reads it. Those two run the reader one token at a time, in the same steps, since a
whole forward rounds otherwise and both sides must compute the same chances to the last bit: bytes
are good on the machine, device and number of threads that they were written with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from llgbm.deltas.errors import mismatch
from llgbm.deltas.next_tokens import next_token_logits
from llgbm.latentwire.errors import LatentFileError, PromptError
from llgbm.latentwire.prefix import empty_prefix
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.rows import build_rows
from llgbm.latentwire.scoring import cache_of, decode
from llgbm.latentwire.wire.arithmetic import counts_of
from llgbm.latentwire.wire.arithmetic import decode as decode_symbols
from llgbm.latentwire.wire.arithmetic import encode as encode_symbols

# Positions whose logits are held at a time.
CHUNK = 64


@torch.no_grad()
def predicted_bits(reader: Reader, text: str) -> float:
    """Ideal length of a text's tokens in bits: their negative log2 chances, summed.

    The first token is taken as uniform, unless the tokenizer's opening stands before it.

    Args:
        reader: frozen.
        text: not empty.

    Raises:
        PromptError: no tokens, or more than the reader's context.
    """
    ids = text_tokens(reader, text)
    rows = build_rows(reader, empty_prefix(reader, 1), [ids])
    states = decode(reader, rows.embeds, rows.mask).last_hidden_state[0, :-1][-len(ids) :]
    told = torch.tensor(ids[len(ids) - len(states) :], device=reader.device)
    nats = 0.0
    for begin in range(0, len(states), CHUNK):
        logits = next_token_logits(reader.model, states[begin : begin + CHUNK])
        nats += float(cross_entropy(logits, told[begin : begin + CHUNK], reduction="sum"))
    return nats / math.log(2) + (len(ids) - len(states)) * math.log2(reader.vocabulary)


def encode_text(reader: Reader, text: str) -> bytes:
    """Bytes of a text's tokens: how many there are (7 bits a byte), and their arithmetic code.

    Raises:
        PromptError: no tokens, or more than the reader's context.
    """
    ids = text_tokens(reader, text)
    return count_bytes(len(ids)) + encode_symbols(ids, _Chances(reader))


def decode_text(reader: Reader, data: bytes) -> list[int]:
    """Token ids that `encode_text` was given; some other ids where bytes are damaged.

    Raises:
        LatentFileError: no count, or more tokens than the reader's context.
    """
    number, place = 0, 0
    most = reader.limit - len(reader.opening)
    while True:
        if place == len(data):
            raise LatentFileError(mismatch("coded text", "count", "its last byte", "the end"))
        number |= (data[place] & 127) << 7 * place
        if number > most:
            raise LatentFileError(mismatch("coded text", "tokens", f"at most {most}", number))
        place += 1
        if data[place - 1] < 128:
            break
    return decode_symbols(data[place:], number, _Chances(reader))


def count_bytes(number: int) -> bytes:
    """A whole number, 7 bits a byte, the lowest first; the last byte is below 128."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def text_tokens(reader: Reader, text: str) -> list[int]:
    """Token ids of a text.

    Raises:
        PromptError: none, or more than the reader's context.
    """
    ids = reader.tokens(text)
    most = reader.limit - len(reader.opening)
    if not 1 <= len(ids) <= most:
        raise PromptError(f"text: expected 1 to {most} tokens, got {len(ids)}")
    return ids


class _Chances:
    """What the reader expects next, one token at a time.

    Args:
        reader: frozen.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._cache: Any = cache_of(reader)
        self._read = 0
        self._logits: Tensor = torch.zeros(reader.vocabulary)
        for token in reader.opening:
            self._feed(token)

    def __call__(self, before: Sequence[int]) -> np.ndarray:
        """Counts after the tokens of the text so far; see `counts_of`."""
        done = self._read - len(self._reader.opening)
        for token in before[done:]:
            self._feed(token)
        return counts_of(self._logits)

    @torch.no_grad()
    def _feed(self, token: int) -> None:
        reader = self._reader
        self._read += 1
        row = torch.tensor([[token]], device=reader.device)
        output = reader.model.get_decoder()(
            inputs_embeds=reader.embed(row),
            attention_mask=torch.ones(1, self._read, dtype=torch.long, device=reader.device),
            position_ids=torch.full_like(row, self._read - 1),
            past_key_values=self._cache,
            use_cache=True,
        )
        self._logits = next_token_logits(reader.model, output.last_hidden_state[0, -1])
