"""Hierarchical pooling: neighbours are merged in stages, each by attention within its window.

After seed 004 (experiment 5): sizes fall step by step, not at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, max_pool1d

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, States, slot_mask
from llgbm.latentwire.poolers.base import POOLERS, Pooler, segments
from llgbm.latentwire.poolers.cross_attention import CrossAttention
from llgbm.latentwire.poolers.head import Head, latent_width
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig


@POOLERS.register("hierarchical")
@dataclass(frozen=True)
class HierarchicalPoolerConfig:
    """Stages that halve the number of vectors, and a last one down to the slots.

    Args:
        stages: all of them, the last included.
        heads: attention heads; must divide the encoder's width.
        hidden: width of the MLPs over the encoder's width.
        width: of the latents; 0 for the encoder's, or the reader's with the next.
        start_from_embeddings: add the mean of the reader's embeddings of the slot's share of the
            text, where the encoder has them.
    """

    stages: int = 2
    heads: int = 8
    hidden: float = 2.0
    width: int = 0
    start_from_embeddings: bool = True

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> HierarchicalPooler:
        """Build it.

        Raises:
            ConfigError: fewer than two stages, or heads or a width that do not fit.
        """
        if self.stages < 2:
            raise ConfigError(f"pooler.stages: expected at least 2, got {self.stages}")
        return HierarchicalPooler(self, encoder, reader)


def stage_sizes(lengths: Tensor, counts: Tensor, stages: int) -> list[Tensor]:
    """Vectors [b] of every text after each stage: halved, never below counts, which come last."""
    sizes = []
    for _ in range(stages - 1):
        lengths = torch.maximum((lengths + 1) // 2, counts)
        sizes.append(lengths)
    return [*sizes, counts]


class HierarchicalPooler(Pooler):
    """Windows of neighbours, merged again and again."""

    def __init__(self, config: HierarchicalPoolerConfig, encoder: Encoder, reader: Reader) -> None:
        super().__init__()
        start = config.start_from_embeddings and encoder.gives_inputs
        self.width = latent_width(config.width, encoder, reader, start)
        self.stages = nn.ModuleList(
            Merge(encoder.width, config.heads, config.hidden) for _ in range(config.stages)
        )
        self.head = Head(encoder.width, self.width, config.hidden, reader, start)

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`."""
        values = layer_norm(states.values, states.values.shape[-1:])
        lengths = states.lengths
        sizes = stage_sizes(lengths, counts, len(self.stages))
        for stage, size in zip(self.stages, sizes, strict=True):
            values = stage(values[:, : int(lengths.max())], lengths, size)
            lengths = size
        return self.head(values, states, counts)


class Merge(nn.Module):
    """A window's mean, what it takes by attention from there and one step beyond, and an MLP.

    One step beyond on either side: a window of one vector would leave attention no choice.
    """

    def __init__(self, width: int, heads: int, hidden: float) -> None:
        super().__init__()
        self.norm, self.norm_after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = CrossAttention(width, heads)
        inner = max(1, round(hidden * width))
        self.first, self.last = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, values: Tensor, lengths: Tensor, sizes: Tensor) -> Tensor:
        """Vectors [b, max(sizes), d] of [b, max(lengths), d]."""
        weights = segments(lengths, sizes)
        wider = max_pool1d(weights, kernel_size=3, stride=1, padding=1) > 0
        window = wider & slot_mask(lengths)[:, None]
        # Slots of padding have no window: they look anywhere, and are never read.
        window = window | ~window.any(-1, keepdim=True)
        normed = self.norm(values)
        merged = weights @ values + self.attention(weights @ normed, normed, normed, window)
        return merged + self.last(gelu(self.first(self.norm_after(merged))))
