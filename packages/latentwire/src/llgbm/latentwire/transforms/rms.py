"""Every vector at the size of embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.transforms.base import TRANSFORMS, Transform

# A vector of almost nothing is enlarged by no more than this.
LARGEST_GAIN = 1e6


@TRANSFORMS.register("rms")
@dataclass(frozen=True)
class RMSTransformConfig:
    """Each vector's root mean square becomes that of the reader's embeddings.

    What only sets a vector's size before this (an adapter's scale) has no effect after it.

    Args:
        scale: times that.
    """

    scale: float = 1.0

    def build(self, reader: Reader) -> RMSTransform:
        """Build it.

        Raises:
            ConfigError: a scale that is not above 0.
        """
        if not self.scale > 0:
            raise ConfigError(f"transform.scale: expected above 0, got {self.scale:g}")
        return RMSTransform(self.scale * reader.embedding_rms)


class RMSTransform(Transform):
    """x * target / rms(x)."""

    def __init__(self, target: float) -> None:
        super().__init__()
        self.target = target

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See `Transform.forward`; a vector of zeros stays zero."""
        square = values.square().mean(-1, keepdim=True)
        least = (self.target / LARGEST_GAIN) ** 2
        return values * self.target * torch.rsqrt(square.clamp(min=least))
