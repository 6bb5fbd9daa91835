"""Pool, then expand: a text becomes a few vectors, and slots are read out of those alone.

After seed 004 (experiment 7). Nothing of the text goes past the few vectors, so mean embeddings
are not added here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, States
from llgbm.latentwire.poolers.attention import first_queries
from llgbm.latentwire.poolers.base import POOLERS, Pooler
from llgbm.latentwire.poolers.cross_attention import CrossAttention
from llgbm.latentwire.poolers.head import Head, latent_width
from llgbm.latentwire.positions import sinusoids
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig


@POOLERS.register("expand")
@dataclass(frozen=True)
class ExpandPoolerConfig:
    """Few global vectors, expanded by one learned query a slot.

    Args:
        vectors: that a text is pooled to, at least 2: with one, slots would have no choice.
        heads: attention heads; must divide the encoder's width.
        hidden: width of the MLP over the encoder's width.
        width: of the latents; 0 for the encoder's.
    """

    vectors: int = 8
    heads: int = 8
    hidden: float = 2.0
    width: int = 0

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> ExpandPooler:
        """Build it.

        Raises:
            ConfigError: fewer than two vectors, or heads or a width that do not fit.
        """
        if self.vectors < 2:
            raise ConfigError(f"pooler.vectors: expected at least 2, got {self.vectors}")
        return ExpandPooler(self, encoder, reader, slots.most)


class ExpandPooler(Pooler):
    """Attention from global queries to the text, then from slot queries to what they took."""

    def __init__(
        self, config: ExpandPoolerConfig, encoder: Encoder, reader: Reader, most: int
    ) -> None:
        super().__init__()
        d = encoder.width
        self.width = latent_width(config.width, encoder, reader)
        self.pooling = nn.Parameter(torch.randn(config.vectors, d))
        self.queries = nn.Parameter(torch.randn(most, d))
        self.pool = CrossAttention(d, config.heads)
        self.norm = nn.LayerNorm(d)
        self.expand = CrossAttention(d, config.heads)
        self.head = Head(d, self.width, config.hidden, reader, start_from_embeddings=False)

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`.

        Raises:
            ConfigError: more slots than there are queries.
        """
        queries = first_queries(self.queries, counts)
        few = self.global_vectors(states)
        everywhere = torch.ones(len(few), 1, few.shape[1], dtype=torch.bool, device=few.device)
        taken = self.expand(queries, few, few, everywhere)
        return self.head(queries + taken, states, counts)

    def global_vectors(self, states: States) -> Tensor:
        """The few vectors [b, vectors, d] that a text is pooled to."""
        values = layer_norm(states.values, states.values.shape[-1:])
        places = torch.arange(values.shape[1], device=values.device)
        keys = values + sinusoids(places, values.shape[2])
        pooling = self.pooling.expand(len(values), -1, -1)
        return self.norm(pooling + self.pool(pooling, keys, values, states.mask[:, None]))
