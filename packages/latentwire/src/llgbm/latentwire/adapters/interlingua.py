"""From a z that several readers share to one reader's width."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.adapters.base import ADAPTERS, Adapter
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.reader import Reader

# Size of position vectors at the start; latents have size 1 beside them.
FIRST_SIZE = 0.02


@ADAPTERS.register("interlingua")
@dataclass(frozen=True)
class InterlinguaAdapterConfig:
    """Position vectors and a projection of this reader's own.

    Args:
        slots: that have a position vector; at least as many as any text is given.
    """

    slots: int = 512

    def build(self, width: int, reader: Reader) -> InterlinguaAdapter:
        """Build it.

        Raises:
            ConfigError: no slots.
        """
        if self.slots < 1:
            raise ConfigError(f"adapter.slots: expected at least 1, got {self.slots}")
        return InterlinguaAdapter(self, width, reader)


class InterlinguaAdapter(Adapter):
    """scale * (W (norm(z) + position) + b) (seed 004, "Anchor-Guided Cross-Model Interlingua").

    Each reader has its own, built for its width: that is its per-model projection. Whatever size
    a shared z has, the normed one has size 1, so a reader is given vectors of its embeddings' size.
    """

    def __init__(self, config: InterlinguaAdapterConfig, width: int, reader: Reader) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.positions = nn.Parameter(FIRST_SIZE * torch.randn(config.slots, width))
        self.project = nn.Linear(width, reader.width)
        nn.init.normal_(self.project.weight, std=width**-0.5)
        nn.init.zeros_(self.project.bias)
        self.scale = nn.Parameter(torch.tensor(reader.embedding_rms))

    def forward(self, latents: Latents) -> Tensor:
        """See `Adapter.forward`.

        Raises:
            ConfigError: more slots than there are position vectors.
        """
        slots = latents.mask.shape[1]
        if slots > len(self.positions):
            raise ConfigError(
                f"adapter.slots: expected at least {slots}, got {len(self.positions)}"
            )
        return self.scale * self.project(self.norm(latents.values) + self.positions[:slots])
