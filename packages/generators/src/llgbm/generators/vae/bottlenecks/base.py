"""What all bottlenecks share."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from llgbm.generators.vae.encoders import Features
from llgbm.generators.vae.latent import Latent, LatentLayout
from llgbm.generators.vae.priors.base import Prior


class Bottleneck(nn.Module, ABC):
    """Features of adapters -> their latent, and what it costs under the prior.

    Args:
        layout: of the latent.
    """

    def __init__(self, layout: LatentLayout) -> None:
        super().__init__()
        self.layout = layout

    @abstractmethod
    def forward(
        self, features: Features, condition: Tensor, prior: Prior, noise: Tensor | None = None
    ) -> Latent:
        """Return the latent of b adapters.

        Args:
            features: of the encoder.
            condition: [b, condition_dim], what the prior reads.
            prior: p(z | condition).
            noise: [b, size] of unit normal numbers; none is added where None.
        """

    @abstractmethod
    def centre(self, condition: Tensor, prior: Prior) -> Tensor:
        """Return the latent [b, size] to write for conditions alone."""

    @abstractmethod
    def sample(self, condition: Tensor, prior: Prior, generator: torch.Generator) -> Tensor:
        """Draw latents [b, size] for conditions; the generator is a CPU's."""
