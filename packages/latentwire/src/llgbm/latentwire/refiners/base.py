"""What every latent refiner is, and where refiners are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from llgbm.latentwire.latents import Latents
from llgbm.latentwire.registry import Registry

# A config's `build(width: int) -> Refiner`, width that of the latents.
REFINERS = Registry("refiner")


class Refiner(nn.Module, ABC):
    """Maps latents to latents of the same width, before they go over the wire."""

    name: ClassVar[str]

    @abstractmethod
    def forward(self, latents: Latents) -> Latents:
        """The same slots [b, m, z] with other values; padding stays zero."""


@REFINERS.register("none")
@dataclass(frozen=True)
class NoRefinerConfig:
    """Leave latents as the pooler made them."""

    def build(self, width: int) -> NoRefiner:
        """Build it."""
        return NoRefiner()


class NoRefiner(Refiner):
    """The identity."""

    def forward(self, latents: Latents) -> Latents:
        """Return `latents`."""
        return latents
