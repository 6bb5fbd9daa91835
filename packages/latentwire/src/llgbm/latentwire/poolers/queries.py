"""Pooled queries: contiguous positions averaged, each average looking at the whole text again.

After ARC-Encoder (anchor, section 4): queries of contiguous positions are averaged and attend to
every position's keys. The average of the *reader's own embeddings* of the same positions is added
where the encoder reads the reader's tokens, and what attention adds starts small: training
begins at vectors that the reader half understands, not at noise.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import layer_norm, scaled_dot_product_attention

from llgbm.latentwire.attention_heads import split_heads
from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, States
from llgbm.latentwire.poolers.base import POOLERS, Pooler, segments
from llgbm.latentwire.poolers.head import Head
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig


@POOLERS.register("queries")
@dataclass(frozen=True)
class PooledQueriesConfig:
    """Averaged queries over contiguous positions.

    Args:
        heads: attention heads; must divide the encoder's width.
        hidden: width of the MLP over the encoder's width.
        start_from_embeddings: add the mean of the reader's embeddings, where the encoder has
            them; latents are then as wide as the reader.
    """

    heads: int = 8
    hidden: float = 2.0
    start_from_embeddings: bool = True

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> PooledQueries:
        """Build it.

        Raises:
            ConfigError: heads that do not divide the encoder's width.
        """
        if self.heads < 1 or encoder.width % self.heads:
            raise ConfigError(
                f"pooler.heads: expected a divisor of {encoder.width}, got {self.heads}"
            )
        return PooledQueries(self, encoder.width, reader, encoder.gives_inputs)


class PooledQueries(Pooler):
    """Mean of a segment's states, attention over the whole text, an MLP; added to embeddings."""

    def __init__(
        self, config: PooledQueriesConfig, width: int, reader: Reader, inputs: bool
    ) -> None:
        super().__init__()
        self.config = config
        self.width = reader.width
        self.query, self.key, self.value, self.merge = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        self.head = Head(
            width, reader.width, config.hidden, reader, inputs and config.start_from_embeddings
        )

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`."""
        values = layer_norm(states.values, states.values.shape[-1:])
        weights = segments(states.lengths, counts).to(values.dtype)
        pooled = weights @ values
        looked = scaled_dot_product_attention(
            split_heads(weights @ self.query(values), self.config.heads),
            split_heads(self.key(values), self.config.heads),
            split_heads(self.value(values), self.config.heads),
            attn_mask=states.mask[:, None, None, :],
        )
        found = pooled + self.merge(looked.transpose(1, 2).flatten(2))
        return self.head(found, states, counts)
