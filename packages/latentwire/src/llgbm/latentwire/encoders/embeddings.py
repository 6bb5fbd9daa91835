"""The reader's own token embeddings, without any context: what the seed's poolers read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llgbm.latentwire.encoders.base import ENCODERS, Encoder
from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.latents import States
from llgbm.latentwire.prefix import replayed
from llgbm.latentwire.reader import Reader


@ENCODERS.register("embeddings")
@dataclass(frozen=True)
class EmbeddingsEncoderConfig:
    """Embeddings as they are; nothing is trained."""

    def build(self, reader: Reader) -> EmbeddingsEncoder:
        """Build it."""
        return EmbeddingsEncoder(reader)


class EmbeddingsEncoder(Encoder):
    """A look-up: the same token has the same vector wherever it stands."""

    gives_inputs = True

    def __init__(self, reader: Reader) -> None:
        super().__init__()
        self.width = reader.width
        self._reader = [reader]

    def forward(self, texts: Sequence[str]) -> States:
        """See `Encoder.forward`."""
        return embedded(self._reader[0], texts)


def embedded(reader: Reader, texts: Sequence[str]) -> States:
    """States whose values and inputs both are a model's embeddings [b, t, h] of b texts.

    Raises:
        PromptError: a text without a token.
    """
    rows = [reader.tokens(text) for text in texts]
    for number, row in enumerate(rows, 1):
        if not row:
            raise PromptError(f"text {number}: expected at least one token, got none")
    prefix = replayed(reader, rows)
    return States(prefix.embeds, prefix.mask, prefix.embeds)
