"""What all priors share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

LOG_2PI = math.log(2 * math.pi)


class Prior(nn.Module, ABC):
    """A density over latents of `size` numbers, given a condition or not.

    Args:
        size: numbers of a latent.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    @abstractmethod
    def log_density(self, z: Tensor, condition: Tensor) -> Tensor:
        """Return log p(z | condition), [b], of latents [b, size]."""

    @abstractmethod
    def centre(self, condition: Tensor) -> Tensor:
        """Return the latent [b, size] that stands for conditions [b, condition_dim]."""

    @abstractmethod
    def sample(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        """Draw latents [b, size] for conditions [b, condition_dim]; the generator is a CPU's."""

    def rates(self, mu: Tensor, logvar: Tensor, z: Tensor, condition: Tensor) -> Tensor:
        """Nats that a posterior costs: KL(q || p), estimated at one draw of it.

        Args:
            mu, logvar: [b, size] of the posterior.
            z: [b, size], drawn from it.
            condition: [b, condition_dim].

        Returns:
            [b, 1], or [b, size] where a prior tells units apart.
        """
        density = gaussian_log_density(z, mu, logvar).sum(1)
        return (density - self.log_density(z, condition))[:, None]


def gaussian_log_density(z: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Log density of each number under N(mu, exp(logvar)), in the shape of z."""
    return -0.5 * (LOG_2PI + logvar + (z - mu).square() * (-logvar).exp())


def gaussian_kl(mu: Tensor, logvar: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(mean, exp(log_variance))) number by number, nats."""
    ratio = (logvar - log_variance).exp()
    distance = (mu - mean).square() * (-log_variance).exp()
    return 0.5 * (ratio + distance - 1 + log_variance - logvar)


def unit_normal(like: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Draw [b, size] unit normal numbers, b rows as `like` has, on its device."""
    return torch.randn(like.shape[0], size, generator=generator).to(like)
