"""Means of contiguous positions: no parameters at all, the pooler to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.latents import Latents, States, slot_mask
from llgbm.latentwire.poolers.base import POOLERS, Pooler, segments
from llgbm.latentwire.poolers.source import pooled_values, source_width
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig


@POOLERS.register("mean")
@dataclass(frozen=True)
class MeanPoolerConfig:
    """Segment means; latents are as wide, and of the size, as what is averaged.

    Args:
        source: `states` of the encoder, or the reader's own `embeddings` (the encoder must then
            train nothing).
    """

    source: Literal["states", "embeddings"] = "states"

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> MeanPooler:
        """Build it.

        Raises:
            ConfigError: an unknown source, or embeddings with an encoder that trains.
        """
        return MeanPooler(self.source, source_width(self.source, encoder, reader))


class MeanPooler(Pooler):
    """Mean of each slot's share of the text."""

    def __init__(self, source: str, width: int) -> None:
        super().__init__()
        self.source, self.width = source, width

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`.

        Raises:
            ConfigError: embeddings are wanted of an encoder that has none.
        """
        means = segments(states.lengths, counts) @ pooled_values(self.source, states)
        return Latents(means, slot_mask(counts))
