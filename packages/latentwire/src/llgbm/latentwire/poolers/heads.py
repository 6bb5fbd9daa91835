"""Positions of every head's own: each key head of each layer keeps those that it needs.

A slot is then no longer a position of the text: it holds, head by head, the keys and values of
different ones, and m slots know of far more than m positions. What a head needs is told by the
attention that its keys received while the reader wrote the text again (`attention_received`),
which needs no training, and corrected by a learned score.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, States, slot_mask
from llgbm.latentwire.poolers.base import POOLERS
from llgbm.latentwire.poolers.scored import ScoredPooler, chosen, passed
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig

# Weights below this are alike: no head needs such a position.
LEAST = 1e-4


@POOLERS.register("heads")
@dataclass(frozen=True)
class HeadsPoolerConfig:
    """For every key head the positions with the highest scores, in the text's order."""

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> HeadsPooler:
        """Build it.

        Raises:
            ConfigError: an encoder that does not give what positions received.
        """
        if not encoder.gives_received:
            raise ConfigError(
                "pooler heads: expected the encoder `cache` with encoder.received=true, which "
                "alone knows what heads look at"
            )
        return HeadsPooler(reader)


class HeadsPooler(ScoredPooler):
    """Keys and values of positions chosen head by head.

    Args:
        reader: whose keys and values they are.
    """

    def __init__(self, reader: Reader) -> None:
        self.shape = (reader.layers, 2, reader.kv_heads, reader.head_dim)
        super().__init__(int(torch.tensor(self.shape).prod()))
        # Starts at what the attention says.
        self.score = nn.Parameter(torch.zeros(self.shape))

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`."""
        assert states.received is not None
        layers, kinds, heads, width = self.shape
        # [b, t, layers, kv_heads].
        standard = self.standard(states.values).unflatten(-1, self.shape)
        learned = (standard * self.score).sum((3, 5)) / (kinds * width) ** 0.5
        scores = states.received.clamp(min=LEAST).log() + learned
        places = chosen(scores.detach(), states.lengths, counts)
        kept = passed(scores.gather(1, places))
        index = places[:, :, :, None, :, None].expand(-1, -1, layers, kinds, heads, width)
        values = states.values.unflatten(-1, self.shape).gather(1, index)
        values = (values * kept[:, :, :, None, :, None]).flatten(2)
        mask = slot_mask(counts)
        return Latents(values * mask[..., None], mask)
