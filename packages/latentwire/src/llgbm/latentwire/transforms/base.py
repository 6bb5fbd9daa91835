"""What every embedding transform is, and where transforms are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from llgbm.latentwire.reader import Reader
from llgbm.latentwire.registry import Registry

# A config's `build(reader: Reader) -> Transform`.
TRANSFORMS = Registry("transform")


class Transform(nn.Module, ABC):
    """Maps vectors to vectors of the same width, by what the reader's embeddings look like."""

    name: ClassVar[str]

    @abstractmethod
    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Vectors [b, m, h] float32 of slots with mask [b, m], mapped."""


@TRANSFORMS.register("none")
@dataclass(frozen=True)
class NoTransformConfig:
    """Leave vectors as they are."""

    def build(self, reader: Reader) -> NoTransform:
        """Build it."""
        return NoTransform()


class NoTransform(Transform):
    """The identity."""

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return `values`."""
        return values
