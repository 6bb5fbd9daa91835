"""What every adapter is, and where adapters are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from llgbm.latentwire.latents import Latents
from llgbm.latentwire.registry import Registry

# A config's `build(width: int, reader: Reader) -> Adapter`.
ADAPTERS = Registry("adapter")


class Adapter(nn.Module, ABC):
    """Maps latents of width z to the reader's width h, slot by slot."""

    name: ClassVar[str]

    @abstractmethod
    def forward(self, latents: Latents) -> Tensor:
        """Vectors [b, m, h] float32; what stands at masked slots is never read."""
