"""Flow prior: a masked autoregressive flow (Papamakarios et al. 2017), from zuko."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llgbm.deltas.errors import require_at_least
from llgbm.generators.extras import flows
from llgbm.generators.vae.priors.base import Prior, unit_normal


@dataclass(frozen=True)
class FlowPriorConfig:
    """A masked autoregressive flow.

    Args:
        transforms: autoregressive steps.
        hidden: units of each one's network.
        conditional: let the networks read the condition.
    """

    transforms: int = 2
    hidden: int = 128
    conditional: bool = True

    def __post_init__(self) -> None:
        require_at_least(1, transforms=self.transforms, hidden=self.hidden)


class FlowPrior(Prior):
    """Unit normal numbers through invertible steps.

    Args:
        config: its settings.
        size: numbers of a latent.
        condition_dim: width of the condition.

    Raises:
        SettingError: zuko is not installed.
    """

    def __init__(self, config: FlowPriorConfig, size: int, condition_dim: int) -> None:
        super().__init__(size)
        self.conditional = config.conditional
        context = condition_dim if config.conditional else 0
        self.flow = flows().MAF(
            features=size,
            context=context,
            transforms=config.transforms,
            hidden_features=(config.hidden, config.hidden),
        )

    def _flow(self, condition: Tensor) -> Any:
        """The distribution for these conditions."""
        return self.flow(condition if self.conditional else None)

    def _from_noise(self, noise: Tensor, condition: Tensor) -> Tensor:
        inverse: Tensor = self._flow(condition).transform.inv(noise)
        return inverse

    def log_density(self, z: Tensor, condition: Tensor) -> Tensor:
        """See Prior."""
        found: Tensor = self._flow(condition).log_prob(z)
        return found

    def centre(self, condition: Tensor) -> Tensor:
        """See Prior: where the flow takes zero."""
        return self._from_noise(condition.new_zeros(condition.shape[0], self.size), condition)

    def sample(self, condition: Tensor, generator: torch.Generator) -> Tensor:
        """See Prior."""
        return self._from_noise(unit_normal(condition, self.size, generator), condition)
