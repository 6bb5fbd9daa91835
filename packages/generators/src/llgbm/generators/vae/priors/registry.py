"""Priors by their configs."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from llgbm.deltas.errors import SettingError
from llgbm.generators.vae.encoders import Features
from llgbm.generators.vae.priors.base import Prior
from llgbm.generators.vae.priors.flow import FlowPrior, FlowPriorConfig
from llgbm.generators.vae.priors.mixture import MixturePrior, MixturePriorConfig
from llgbm.generators.vae.priors.normal import NormalPrior, NormalPriorConfig
from llgbm.generators.vae.priors.vamp import VampPrior, VampPriorConfig

PriorConfig = NormalPriorConfig | MixturePriorConfig | VampPriorConfig | FlowPriorConfig
Posterior = Callable[[Features], tuple[Tensor, Tensor]]


def make_prior(
    config: PriorConfig,
    size: int,
    condition_dim: int,
    width: int,
    layers: int,
    posterior: Posterior | None,
) -> Prior:
    """Build the prior that reads `config`.

    Args:
        config: of the prior.
        size: numbers of a latent.
        condition_dim: width of the condition.
        width: of the encoder's features.
        layers: of the features.
        posterior: features -> moments; None where the bottleneck has none.

    Raises:
        SettingError: a VampPrior over a bottleneck without moments.
    """
    if isinstance(config, VampPriorConfig):
        if posterior is None:
            raise SettingError("prior: vamp: expected a Gaussian bottleneck, got another")
        return VampPrior(config, size, condition_dim, width, layers, posterior)
    if isinstance(config, MixturePriorConfig):
        return MixturePrior(config, size, condition_dim)
    if isinstance(config, FlowPriorConfig):
        return FlowPrior(config, size, condition_dim)
    return NormalPrior(config, size, condition_dim)
