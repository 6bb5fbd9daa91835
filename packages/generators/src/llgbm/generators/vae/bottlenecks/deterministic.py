"""Deterministic bottleneck: an autoencoder, the control of every VAE."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.generators.vae.bottlenecks.base import Bottleneck
from llgbm.generators.vae.encoders import Features
from llgbm.generators.vae.heads import LatentHead
from llgbm.generators.vae.latent import Latent, LatentLayout
from llgbm.generators.vae.priors.base import Prior


@dataclass(frozen=True)
class DeterministicConfig:
    """An autoencoder: nothing is added to z and nothing asked of it."""


class DeterministicBottleneck(Bottleneck):
    """z by a linear head; the prior is fitted to the codes, which do not feel it.

    Args:
        config: its settings.
        layout: of the latent.
        width: of the features.
    """

    def __init__(self, config: DeterministicConfig, layout: LatentLayout, width: int) -> None:
        super().__init__(layout)
        self.mu = LatentHead(layout, width)

    def forward(
        self, features: Features, condition: Tensor, prior: Prior, noise: Tensor | None = None
    ) -> Latent:
        """See Bottleneck; noise is not read."""
        mu = self.mu(features)
        fixed = mu.detach()
        # The density of the prior at a point is its rate for a posterior of unit variance, but
        # for a constant.
        rates = prior.rates(fixed, torch.zeros_like(fixed), fixed, condition)
        return Latent(mu, mu, losses={"prior": rates.sum(1).mean() / self.layout.size})

    def centre(self, condition: Tensor, prior: Prior) -> Tensor:
        """See Bottleneck."""
        return prior.centre(condition)

    def sample(self, condition: Tensor, prior: Prior, generator: torch.Generator) -> Tensor:
        """See Bottleneck."""
        return prior.sample(condition, generator)
