"""Gaussian bottleneck: q(z | x) = N(mu, exp(logvar)) (Kingma & Welling 2014; seed 000, 2a)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.generators.vae.bottlenecks.base import Bottleneck
from llgbm.generators.vae.encoders import Features
from llgbm.generators.vae.heads import LatentHead
from llgbm.generators.vae.latent import Latent, LatentLayout
from llgbm.generators.vae.priors.base import Prior

# Bounds of logvar: a posterior narrower than e-12 or wider than e4 is a numerical accident.
LOWEST, HIGHEST = -12.0, 4.0


@dataclass(frozen=True)
class GaussianConfig:
    """The Gaussian bottleneck has no settings of its own: beta and free bits are the loss's."""


class GaussianBottleneck(Bottleneck):
    """Centre and log-variance by linear heads.

    Args:
        config: its settings.
        layout: of the latent.
        width: of the features.
    """

    def __init__(self, config: GaussianConfig, layout: LatentLayout, width: int) -> None:
        super().__init__(layout)
        self.mu = LatentHead(layout, width)
        self.logvar = LatentHead(layout, width, zero=True)

    def posterior(self, features: Features) -> tuple[Tensor, Tensor]:
        """Return mu and logvar, each [b, size]."""
        return self.mu(features), self.logvar(features).clamp(LOWEST, HIGHEST)

    def forward(
        self, features: Features, condition: Tensor, prior: Prior, noise: Tensor | None = None
    ) -> Latent:
        """See Bottleneck."""
        mu, logvar = self.posterior(features)
        z = mu if noise is None else mu + (0.5 * logvar).exp() * noise
        return Latent(z, mu, logvar, rates=prior.rates(mu, logvar, z, condition))

    def centre(self, condition: Tensor, prior: Prior) -> Tensor:
        """See Bottleneck."""
        return prior.centre(condition)

    def sample(self, condition: Tensor, prior: Prior, generator: torch.Generator) -> Tensor:
        """See Bottleneck."""
        return prior.sample(condition, generator)
