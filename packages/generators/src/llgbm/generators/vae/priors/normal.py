"""Normal prior: N(0, 1), or N(m, s) read off the condition."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llgbm.deltas.errors import SettingError, require_at_least
from llgbm.generators.vae.priors.base import (
    Prior,
    gaussian_kl,
    gaussian_log_density,
    unit_normal,
)

# Bounds of the log-variance that a condition may ask for.
WIDEST = 4.0


@dataclass(frozen=True)
class NormalPriorConfig:
    """A normal prior.

    Args:
        conditional: learn p(z | condition); N(0, 1) where False.
        hidden: units between condition and moments.
        task_dim: the first numbers of z, which the condition tells; the others keep N(0, 1) and
            hold what is left. All where 0. (The split into task-salient and residual parts that
            FVAE-LoRA makes of activations.)
    """

    conditional: bool = True
    hidden: int = 256
    task_dim: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, hidden=self.hidden)
        require_at_least(0, task_dim=self.task_dim)
        if self.task_dim and not self.conditional:
            raise SettingError("task_dim: expected 0 where the prior reads no condition")


class NormalPrior(Prior):
    """Moments by an MLP that starts at N(0, 1).

    Args:
        config: its settings.
        size: numbers of a latent.
        condition_dim: width of the condition.

    Raises:
        SettingError: a task part larger than the latent.
    """

    def __init__(self, config: NormalPriorConfig, size: int, condition_dim: int) -> None:
        super().__init__(size)
        if config.task_dim > size:
            raise SettingError(f"task_dim: expected at most {size}, got {config.task_dim}")
        self.told = (config.task_dim or size) if config.conditional else 0
        self.inner = nn.Linear(condition_dim, config.hidden) if self.told else None
        self.outer = nn.Linear(config.hidden, 2 * self.told) if self.told else None
        if self.outer is not None:
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

    def moments(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each [b, size]."""
        b = condition.shape[0]
        if self.inner is None or self.outer is None:
            zeros = condition.new_zeros(b, self.size)
            return zeros, zeros
        mean, log_variance = self.outer(F.gelu(self.inner(condition))).chunk(2, dim=1)
        log_variance = WIDEST * torch.tanh(log_variance / WIDEST)
        rest = (0, self.size - self.told)
        return F.pad(mean, rest), F.pad(log_variance, rest)

    def rates(self, mu: Tensor, logvar: Tensor, z: Tensor, condition: Tensor) -> Tensor:
        """KL unit by unit, [b, size], exactly."""
        return gaussian_kl(mu, logvar, *self.moments(condition))

    def log_density(self, z: Tensor, condition: Tensor) -> Tensor:
        """See Prior."""
        return gaussian_log_density(z, *self.moments(condition)).sum(1)

    def centre(self, condition: Tensor) -> Tensor:
        """See Prior: the mean."""
        return self.moments(condition)[0]

    def sample(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        """See Prior."""
        mean, log_variance = self.moments(condition)
        return mean + (0.5 * log_variance).exp() * unit_normal(mean, self.size, generator)
