"""Bytes that a text takes in other ways, and rows of a table that sets latents beside them."""

from __future__ import annotations

import gzip
import importlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from llgbm.deltas.errors import MissingPackageError
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.wire.bits import bits_of, packed_size
from llgbm.latentwire.wire.header import parse_header
from llgbm.latentwire.wire.predicted import count_bytes, predicted_bits, text_tokens

GZIP_LEVEL = 9
ZSTD_LEVEL = 19


@dataclass(frozen=True)
class BytesRow:
    """What one way to send a text, or several texts, takes.

    Attributes:
        name: of the way.
        header: bytes that tell what the rest is, a checksum included.
        payload: bytes of the content.
        scales: bytes of the payload's scales.
        utf8: bytes of the text as UTF-8, which ratios are against.
    """

    name: str
    header: int
    payload: int
    scales: int
    utf8: int

    @property
    def total(self) -> int:
        """All bytes."""
        return self.header + self.payload + self.scales

    @property
    def ratio(self) -> float:
        """Bytes of UTF-8 a byte: above 1 it is smaller than the text."""
        return self.utf8 / self.total


def utf8_bytes(text: str) -> int:
    """Bytes of a text as UTF-8."""
    return len(text.encode())


def gzip_bytes(text: str) -> int:
    """Bytes of a text as a gzip file without a name or time."""
    return len(gzip.compress(text.encode(), GZIP_LEVEL, mtime=0))


def zstd_bytes(text: str) -> int:
    """Bytes of a text as a Zstandard frame without a dictionary.

    Raises:
        MissingPackageError: Python before 3.14 without backports.zstd; says the pip line.
    """
    own = sys.version_info >= (3, 14)
    try:
        zstd = importlib.import_module("compression.zstd" if own else "backports.zstd")
    except ImportError as error:
        raise MissingPackageError(
            "zstd: needs backports.zstd (extra `wire` of llgbm-latentwire): "
            "pip install backports.zstd"
        ) from error
    return len(zstd.compress(text.encode(), level=ZSTD_LEVEL))


def text_rows(reader: Reader, text: str) -> list[BytesRow]:
    """Ways to send a text without latents: what latents have to be shorter than.

    Returns:
        Rows `utf8`, `gzip`, `zstd`, `ids16` (token ids of 16 bits; only where the vocabulary has
        so few), `ids` (of ceil(log2 vocabulary) bits) and `arithmetic` (the reader's own ideal
        code, after the number of tokens).

    Raises:
        PromptError: a text without tokens, or with more than the reader's context.
        MissingPackageError: see `zstd_bytes`.
    """
    ids = text_tokens(reader, text)
    whole = utf8_bytes(text)
    payloads = {"utf8": whole, "gzip": gzip_bytes(text), "zstd": zstd_bytes(text)}
    if reader.vocabulary <= 1 << 16:
        payloads["ids16"] = packed_size(len(ids), 16)
    payloads["ids"] = packed_size(len(ids), bits_of(reader.vocabulary))
    rows = [BytesRow(name, 0, payload, 0, whole) for name, payload in payloads.items()]
    ideal = math.ceil(predicted_bits(reader, text) / 8)
    return [*rows, BytesRow("arithmetic", len(count_bytes(len(ids))), ideal, 0, whole)]


def latent_row(data: bytes, text: str) -> BytesRow:
    """What a latent file takes.

    Args:
        data: the file, as `pack` wrote it.
        text: that its latents stand for.

    Raises:
        LatentFileError: no latent file.
        PromptError: an empty text.
    """
    if not text:
        raise PromptError("text: expected at least one character, got none")
    header = parse_header(data, "latents")
    payload, scales = header.payload_bytes, header.scale_bytes
    rest = len(data) - payload - scales
    return BytesRow(header.scheme, rest, payload, scales, utf8_bytes(text))


def summed(rows: Sequence[BytesRow]) -> BytesRow:
    """One row for several texts sent in the same way.

    Raises:
        ConfigError: no rows, or rows of several ways.
    """
    names = {row.name for row in rows}
    if len(names) != 1:
        raise ConfigError(f"rows: expected rows of one way, got {sorted(names) or 'none'}")
    return BytesRow(
        names.pop(),
        sum(row.header for row in rows),
        sum(row.payload for row in rows),
        sum(row.scales for row in rows),
        sum(row.utf8 for row in rows),
    )
