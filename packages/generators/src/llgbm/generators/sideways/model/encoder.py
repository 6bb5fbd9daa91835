"""Checkpoint to latent: blocks are embedded, attend to each other, and are averaged."""

from __future__ import annotations

import torch
from torch import Tensor, nn

HEADS = 4


class WeightBlockEmbedder(nn.Module):
    """Numbers of every block to a vector; blocks share the map and have a vector of their own.

    Args:
        blocks: b of them.
        features: numbers of a block.
        width: of the vectors.
    """

    def __init__(self, blocks: int, features: int, width: int) -> None:
        super().__init__()
        self.read = nn.Linear(features, width)
        self.block = nn.Parameter(torch.randn(blocks, width) * 0.1)

    def forward(self, features: Tensor) -> Tensor:
        """[n, b, features] to [n, b, width]."""
        embedded: Tensor = self.read(features)
        return embedded + self.block


class CheckpointEncoder(nn.Module):
    """q(z | checkpoint), of a diagonal Gaussian (seed 003, checkpoint encoder).

    The mean over blocks forgets which block was large: statistics also reach mu by a map of every
    block's own.

    Args:
        blocks: b of them.
        features: numbers of a block.
        statistics: how many of these, the last ones, are statistics.
        width: inside.
        latent_dim: of z.
    """

    def __init__(
        self, blocks: int, features: int, statistics: int, width: int, latent_dim: int
    ) -> None:
        super().__init__()
        self.statistics = statistics
        self.straight = nn.Linear(blocks * statistics, latent_dim, bias=False)
        nn.init.zeros_(self.straight.weight)
        self.embed = WeightBlockEmbedder(blocks, features, width)
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, HEADS, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * latent_dim))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[n, b, features] to mu and logvar, [n, z] each."""
        x = self.embed(features)
        normed = self.norm(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        x = x + self.mlp(x)
        mu, logvar = self.out(x.mean(1)).chunk(2, dim=-1)
        straight = self.straight(features[..., -self.statistics :].flatten(1))
        return mu + straight, logvar.clamp(-8, 4)
