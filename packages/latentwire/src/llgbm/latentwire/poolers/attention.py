"""Cross-attention: one learned query a slot looks at the whole text (seed 004, SequencePooler)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, States
from llgbm.latentwire.poolers.base import POOLERS, Pooler
from llgbm.latentwire.poolers.cross_attention import CrossAttention
from llgbm.latentwire.poolers.head import Head, latent_width
from llgbm.latentwire.positions import sinusoids
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig


@POOLERS.register("attention")
@dataclass(frozen=True)
class AttentionPoolerConfig:
    """Learned queries, as many as any text may have slots.

    Args:
        heads: attention heads; must divide the encoder's width.
        hidden: width of the MLP over the encoder's width.
        width: of the latents; 0 for the encoder's, or the reader's with the next.
        start_from_embeddings: add the mean of the reader's embeddings of the slot's share of the
            text, where the encoder has them.
    """

    heads: int = 8
    hidden: float = 2.0
    width: int = 0
    start_from_embeddings: bool = True

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> AttentionPooler:
        """Build it.

        Raises:
            ConfigError: heads or a width that do not fit.
        """
        return AttentionPooler(self, encoder, reader, slots.most)


class AttentionPooler(Pooler):
    """Query j belongs to slot j; the first counts[i] of them are used for text i.

    Keys are told their position: without it a query could not learn its share of the text.
    """

    def __init__(
        self, config: AttentionPoolerConfig, encoder: Encoder, reader: Reader, most: int
    ) -> None:
        super().__init__()
        start = config.start_from_embeddings and encoder.gives_inputs
        self.width = latent_width(config.width, encoder, reader, start)
        self.queries = nn.Parameter(torch.randn(most, encoder.width))
        self.attention = CrossAttention(encoder.width, config.heads)
        self.head = Head(encoder.width, self.width, config.hidden, reader, start)

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`.

        Raises:
            ConfigError: more slots than there are queries.
        """
        queries = first_queries(self.queries, counts)
        values = layer_norm(states.values, states.values.shape[-1:])
        places = torch.arange(values.shape[1], device=values.device)
        keys = values + sinusoids(places, values.shape[2])
        taken = self.attention(queries, keys, values, states.mask[:, None])
        return self.head(queries + taken, states, counts)


def first_queries(queries: Tensor, counts: Tensor) -> Tensor:
    """The first max(counts) of [most, d] queries for every text, [b, max(counts), d].

    Raises:
        ConfigError: more slots than there are queries.
    """
    wanted = int(counts.max())
    if wanted > len(queries):
        raise ConfigError(f"slots: expected at most {len(queries)} for this pooler, got {wanted}")
    return queries[:wanted].expand(len(counts), -1, -1)
