"""Mixture priors: several normal components, weighed by the condition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.deltas.errors import require_at_least
from llgbm.generators.vae.priors.base import Prior, gaussian_log_density, unit_normal


@dataclass(frozen=True)
class MixturePriorConfig:
    """A Gaussian mixture.

    Args:
        components: normal components with diagonal covariances.
        conditional: let the condition weigh them; weights of their own where False.
    """

    components: int = 16
    conditional: bool = True

    def __post_init__(self) -> None:
        require_at_least(1, components=self.components)


class MixtureOfNormals(Prior):
    """What mixtures share, wherever their components come from.

    Args:
        size: numbers of a latent.
        components: their number.
        condition_dim: width of the condition; 0 for weights that no condition decides.
    """

    def __init__(self, size: int, components: int, condition_dim: int) -> None:
        super().__init__(size)
        self.weigh = nn.Linear(condition_dim, components) if condition_dim else None
        self.logits = None if condition_dim else nn.Parameter(torch.zeros(components))

    def components(self) -> tuple[Tensor, Tensor]:
        """Return means and log-variances, each [components, size]."""
        raise NotImplementedError

    def log_weights(self, condition: Tensor) -> Tensor:
        """Return log weights [b, components]."""
        if self.weigh is not None:
            return self.weigh(condition).log_softmax(1)
        assert self.logits is not None
        return self.logits.log_softmax(0).expand(condition.shape[0], -1)

    def log_density(self, z: Tensor, condition: Tensor) -> Tensor:
        """See Prior."""
        means, log_variances = self.components()
        each = gaussian_log_density(z[:, None], means, log_variances).sum(2)
        return (self.log_weights(condition) + each).logsumexp(1)

    def centre(self, condition: Tensor) -> Tensor:
        """See Prior: the mean of the mixture."""
        return self.log_weights(condition).exp() @ self.components()[0]

    def sample(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        """See Prior."""
        shares = self.log_weights(condition).exp().cpu()
        chosen = shares.multinomial(1, generator=generator).squeeze(1).to(condition.device)
        means, log_variances = self.components()
        noise = unit_normal(condition, self.size, generator)
        return means[chosen] + (0.5 * log_variances[chosen]).exp() * noise


class MixturePrior(MixtureOfNormals):
    """Components that are parameters of their own.

    Args:
        config: its settings.
        size: numbers of a latent.
        condition_dim: width of the condition.
    """

    def __init__(self, config: MixturePriorConfig, size: int, condition_dim: int) -> None:
        super().__init__(size, config.components, condition_dim if config.conditional else 0)
        self.means = nn.Parameter(torch.randn(config.components, size))
        self.log_variances = nn.Parameter(torch.zeros(config.components, size))

    def components(self) -> tuple[Tensor, Tensor]:
        """See MixtureOfNormals."""
        return self.means, self.log_variances
