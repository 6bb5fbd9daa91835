"""A transformer from scratch over UTF-8 bytes: no tokenizer, and nothing pretrained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from llgbm.latentwire.encoders.base import ENCODERS, Encoder
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.latents import States, slot_mask
from llgbm.latentwire.reader import Reader


@ENCODERS.register("byte")
@dataclass(frozen=True)
class ByteEncoderConfig:
    """States of a transformer encoder, one a byte.

    Args:
        width: of the states.
        layers: of the transformer.
        heads: of its attention; must divide the width.
        hidden: width of its MLPs over the width.
        limit: bytes of a text, at most.
    """

    width: int = 256
    layers: int = 6
    heads: int = 8
    hidden: float = 4.0
    limit: int = 2048

    def build(self, reader: Reader) -> ByteEncoder:
        """Build it on the reader's device; it knows nothing else of the reader.

        Raises:
            ConfigError: heads that do not divide the width, or a number below 1.
        """
        if min(self.width, self.layers, self.heads, self.limit) < 1 or self.hidden <= 0:
            raise ConfigError(f"encoder: expected numbers of at least 1, got {self}")
        if self.width % self.heads:
            raise ConfigError(
                f"encoder.heads: expected a divisor of {self.width}, got {self.heads}"
            )
        return ByteEncoder(self).to(reader.device)


class ByteEncoder(Encoder):
    """Bytes and learned positions through pre-norm layers (seed 004, "ByteEncoder vs PCA")."""

    def __init__(self, config: ByteEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self.embedding = nn.Embedding(256, config.width)
        self.positions = nn.Parameter(torch.empty(config.limit, config.width))
        # Both together have size 1.
        nn.init.normal_(self.embedding.weight, std=0.5**0.5)
        nn.init.normal_(self.positions, std=0.5**0.5)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                config.width,
                config.heads,
                round(config.hidden * config.width),
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, texts: Sequence[str]) -> States:
        """See `Encoder.forward`."""
        ids, mask = self.bytes_of(texts)
        values = self.embedding(ids) + self.positions[: ids.shape[1]]
        for layer in self.layers:
            values = layer(values, src_key_padding_mask=~mask)
        return States(self.norm(values), mask)

    def bytes_of(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """UTF-8 bytes [b, t] int64 of b texts, zero after a text's end, and their mask [b, t].

        Raises:
            PromptError: an empty text, one beyond the limit, or one that UTF-8 cannot write.
        """
        device = self.positions.device
        rows = []
        for number, text in enumerate(texts, 1):
            try:
                row = text.encode("utf-8")
            except UnicodeEncodeError as error:
                raise PromptError(f"text {number}: expected Unicode text, got {error}") from error
            if not 1 <= len(row) <= self.config.limit:
                raise PromptError(
                    f"text {number}: expected 1 to {self.config.limit} UTF-8 bytes, got {len(row)}"
                )
            rows.append(torch.tensor(list(row), device=device))
        lengths = torch.tensor([len(row) for row in rows], device=device)
        return pad_sequence(rows, batch_first=True), slot_mask(lengths)
