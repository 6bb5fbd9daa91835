"""VampPrior: a mixture of the posteriors of learned inputs (Tomczak & Welling 2018)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.deltas.errors import require_at_least
from llgbm.generators.vae.encoders import Features
from llgbm.generators.vae.priors.mixture import MixtureOfNormals


@dataclass(frozen=True)
class VampPriorConfig:
    """A VampPrior.

    Args:
        inputs: learned inputs.
        conditional: let the condition weigh their posteriors; weights of their own where False.
    """

    inputs: int = 16
    conditional: bool = True

    def __post_init__(self) -> None:
        require_at_least(1, inputs=self.inputs)


class VampPrior(MixtureOfNormals):
    """Learned features in place of adapters: what the encoder would say of a pseudo-adapter.

    Args:
        config: its settings.
        size: numbers of a latent.
        condition_dim: width of the condition.
        width: of the features.
        layers: of the features.
        posterior: features -> mu and logvar, of the bottleneck; not a part of the prior.
    """

    def __init__(
        self,
        config: VampPriorConfig,
        size: int,
        condition_dim: int,
        width: int,
        layers: int,
        posterior: Callable[[Features], tuple[Tensor, Tensor]],
    ) -> None:
        super().__init__(size, config.inputs, condition_dim if config.conditional else 0)
        self.whole = nn.Parameter(torch.randn(config.inputs, width))
        self.by_layer = nn.Parameter(torch.randn(layers, config.inputs, width))
        self.posterior = posterior

    def components(self) -> tuple[Tensor, Tensor]:
        """See MixtureOfNormals."""
        return self.posterior(Features(self.whole, self.by_layer))
