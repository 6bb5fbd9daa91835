"""Arithmetic coding of symbols whose chances both sides can compute.

A range coder with 64-bit state (Martin 1979): chances are whole counts out of 2**32, so coding is
exact integer arithmetic, and the loss against the ideal length is below 2**-20 bits a symbol plus
one byte a message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from torch import Tensor

from llgbm.latentwire.errors import ConfigError

TOTAL_BITS = 32
TOTAL = 1 << TOTAL_BITS
STATE = 1 << 64
# The range is kept at least so large, a byte at a time.
LEAST = STATE >> 8
STATE_BYTES = 8


def counts_of(logits: Tensor) -> np.ndarray:
    """Chances as whole counts that sum to 2**32, each at least 1.

    Args:
        logits: [v], finite; at most 2**24 of them.

    Returns:
        [v] int64.

    Raises:
        ConfigError: NaN or Inf, no symbols, or too many.
    """
    if not 0 < len(logits) <= 1 << 24 or not logits.isfinite().all():
        raise ConfigError(
            f"logits: expected 1 to {1 << 24} finite numbers, got {len(logits)}, "
            f"{int((~logits.isfinite()).sum())} of them NaN or Inf"
        )
    chances = logits.detach().double().cpu().softmax(-1).numpy()
    counts = np.floor(chances * (TOTAL - len(chances))).astype(np.int64) + 1
    counts[int(counts.argmax())] += TOTAL - int(counts.sum())
    return counts


class Encoder:
    """Symbols to bytes."""

    def __init__(self) -> None:
        self._low, self._range = 0, STATE - 1
        self._bytes = bytearray()

    def put(self, counts: np.ndarray, symbol: int) -> None:
        """Append a symbol.

        Args:
            counts: [v] int64 with sum 2**32.
            symbol: of a count of at least 1.
        """
        unit = self._range >> TOTAL_BITS
        self._low += unit * int(counts[:symbol].sum())
        self._range = unit * int(counts[symbol])
        self._carry()
        while self._range < LEAST:
            self._bytes.append(self._low >> 56)
            self._low = self._low << 8 & (STATE - 1)
            self._range <<= 8

    def finish(self) -> bytes:
        """All bytes; zeros at the end are left out, since a decoder reads zeros after the end."""
        for places in range(STATE_BYTES + 1):
            step = STATE >> 8 * places
            value = -(-self._low // step) * step
            if value < self._low + self._range:
                break
        self._low = value
        self._carry()
        self._bytes += self._low.to_bytes(STATE_BYTES, "big")
        return bytes(self._bytes.rstrip(b"\0"))

    def _carry(self) -> None:
        """Add what ran over the state to the bytes that are out already."""
        if self._low < STATE:
            return
        self._low -= STATE
        place = len(self._bytes) - 1
        while self._bytes[place] == 255:
            self._bytes[place] = 0
            place -= 1
        self._bytes[place] += 1


class Decoder:
    """Bytes to symbols; bytes that no encoder wrote give some symbols, never an error.

    Args:
        data: of an encoder.
    """

    def __init__(self, data: bytes) -> None:
        self._data: Iterator[int] = iter(data)
        self._range = STATE - 1
        self._offset = 0
        for _ in range(STATE_BYTES):
            self._shift()

    def take(self, counts: np.ndarray) -> int:
        """Next symbol, given the counts [v] that it was put with."""
        unit = self._range >> TOTAL_BITS
        place = min(self._offset // unit, TOTAL - 1)
        ends = counts.cumsum()
        symbol = int(np.searchsorted(ends, place, side="right"))
        self._offset -= unit * int(ends[symbol] - counts[symbol])
        self._range = unit * int(counts[symbol])
        while self._range < LEAST:
            self._shift()
            self._range <<= 8
        return symbol

    def _shift(self) -> None:
        self._offset = self._offset << 8 | next(self._data, 0)


def encode(symbols: Sequence[int], counts: Callable[[Sequence[int]], np.ndarray]) -> bytes:
    """Bytes of symbols.

    Args:
        symbols: to encode.
        counts: chances [v] of the next symbol after those that it is given, as whole counts with
            sum 2**32; called once a symbol, in order.
    """
    encoder = Encoder()
    for place, symbol in enumerate(symbols):
        encoder.put(counts(symbols[:place]), symbol)
    return encoder.finish()


def decode(data: bytes, length: int, counts: Callable[[Sequence[int]], np.ndarray]) -> list[int]:
    """Inverse of `encode`: `length` symbols."""
    decoder = Decoder(data)
    symbols: list[int] = []
    for _ in range(length):
        symbols.append(decoder.take(counts(symbols)))
    return symbols
