"""Latent to checkpoint: numbers of every block along the basis's directions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CheckpointDecoder(nn.Module):
    """Writes every block's coefficients from z and the block's own vector.

    Args:
        blocks: b of them.
        k: coefficients of a block.
        width: inside.
        latent_dim: of z.
    """

    def __init__(self, blocks: int, k: int, width: int, latent_dim: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Linear(latent_dim, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )
        self.shared = nn.Linear(latent_dim, k)
        self.block = nn.Parameter(1 + 0.1 * torch.randn(blocks, width))
        self.own = nn.Linear(width, k)
        nn.init.zeros_(self.own.weight)

    def forward(self, z: Tensor) -> Tensor:
        """[n, z] to standardised coefficients [n, b, k]."""
        mixed = self.trunk(z)[:, None] * self.block
        written: Tensor = self.shared(z)[:, None] + self.own(mixed)
        return written
