"""Metrics of a latent, and how sure that is: an ensemble of small networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MetricPredictor(nn.Module):
    """Members differ in how they start and in which runs they see most of.

    Args:
        latent_dim: of z.
        metrics: predicted ones.
        members: networks.
        width: of each.
    """

    left_out: Tensor
    left_out_moved: Tensor

    def __init__(self, latent_dim: int, metrics: int, members: int, width: int) -> None:
        super().__init__()
        self.straight = nn.Linear(latent_dim, metrics)
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Linear(latent_dim, width),
                nn.GELU(),
                nn.Linear(width, width),
                nn.GELU(),
                nn.Linear(width, metrics),
            )
            for _ in range(members)
        )
        # Standard error on validation runs, in units of a metric's spread: what all members miss.
        self.register_buffer("left_out", torch.zeros(metrics))
        # Likewise, of latents that the dynamics moved from a run's first checkpoint.
        self.register_buffer("left_out_moved", torch.zeros(metrics))

    def each(self, z: Tensor) -> Tensor:
        """Predictions of every member, [members, ..., metrics], standardised."""
        straight = self.straight(z)
        return torch.stack([straight + member(z) for member in self.members])

    def forward(self, z: Tensor, moved: bool = False) -> tuple[Tensor, Tensor]:
        """Mean and standard error, [..., metrics] each, standardised.

        Args:
            z: latents [..., z].
            moved: by the dynamics, not read off weights.
        """
        each = self.each(z)
        spread = each.var(0, unbiased=False)
        missed = self.left_out_moved if moved else self.left_out
        return each.mean(0), (spread + missed.square()).sqrt()
