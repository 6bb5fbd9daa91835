"""Where a training goes next in the latent space, given its hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class LatentDynamics(nn.Module):
    """z at a later step from z at an earlier one.

    Args:
        latent_dim: of z.
        hyperparameters: numbers of a run, standardised.
        width: inside.
    """

    def __init__(self, latent_dim: int, hyperparameters: int, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(latent_dim + hyperparameters + 2, width),
            nn.GELU(),
            nn.Linear(width, width),
            nn.GELU(),
            nn.Linear(width, latent_dim),
        )
        last = self.net[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, z: Tensor, hyperparameters: Tensor, now: Tensor, then: Tensor) -> Tensor:
        """Move from one time to the next.

        Args:
            z: [n, z].
            hyperparameters: [n, h] standardised.
            now: [n], share of the longest training that has passed.
            then: [n], likewise, of what is asked for.
        """
        times = torch.stack([now, then - now], dim=-1)
        moved: Tensor = self.net(torch.cat([z, hyperparameters, times], dim=-1))
        return z + moved

    def roll_out(self, z: Tensor, hyperparameters: Tensor, times: Sequence[float]) -> Tensor:
        """Latents [n, t, z] at every time, of which the first is z itself."""
        found = [z]
        for now, then in pairwise(times):
            at = z.new_full((len(z),), now), z.new_full((len(z),), then)
            found.append(self(found[-1], hyperparameters, *at))
        return torch.stack(found, dim=1)
