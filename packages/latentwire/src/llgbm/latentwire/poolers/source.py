"""Which vectors of a text a pooler reads: the encoder's states, or the reader's embeddings."""

from __future__ import annotations

from torch import Tensor

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import States
from llgbm.latentwire.reader import Reader

SOURCES = ("states", "embeddings")


def source_width(source: str, encoder: Encoder, reader: Reader) -> int:
    """Width of a source.

    Raises:
        ConfigError: an unknown source, or embeddings beside an encoder that trains: no gradient
            would ever reach it (anchor rule 12).
    """
    if source not in SOURCES:
        raise ConfigError(f"pooler.source: expected one of {SOURCES}, got {source!r}")
    if source == "states":
        return encoder.width
    if any(parameter.requires_grad for parameter in encoder.parameters()):
        raise ConfigError(
            "pooler.source: embeddings: expected an encoder that trains nothing "
            "(encoder.tuning=frozen), got one that trains"
        )
    return reader.width


def pooled_values(source: str, states: States) -> Tensor:
    """Vectors [b, t, d] of a source.

    Raises:
        ConfigError: embeddings are wanted of an encoder that does not read the reader's tokens.
    """
    if source == "states":
        return states.values
    if states.inputs is None:
        raise ConfigError(
            "pooler.source: embeddings: expected an encoder that reads the reader's tokens, "
            "got one that does not"
        )
    return states.inputs
