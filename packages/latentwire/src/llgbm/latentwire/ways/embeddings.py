"""Latents as input embeddings: the reader's weights and inner states are left alone."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from llgbm.latentwire.latents import Latents
from llgbm.latentwire.prefix import Prefix, from_embeddings
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.ways.base import WAYS, Way


@WAYS.register("embeddings")
@dataclass(frozen=True)
class EmbeddingsWayConfig:
    """Slots are read as if they were embeddings of tokens (`inputs_embeds`)."""

    def build(self, width: int, reader: Reader) -> EmbeddingsWay:
        """Build it."""
        return EmbeddingsWay()


class EmbeddingsWay(Way):
    """Input embeddings."""

    def prefix(self, reader: Reader, latents: Latents, embeds: Tensor | None) -> Prefix:
        """Return the adapter's vectors as they are."""
        assert embeds is not None
        return from_embeddings(embeds, latents.mask)
