"""Finite scalar quantization (Mentzer et al. 2023): a fixed grid, which cannot collapse."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.deltas.errors import SettingError
from llgbm.generators.extras import quantizers
from llgbm.generators.vae.bottlenecks.discrete import DiscreteBottleneck
from llgbm.generators.vae.latent import LatentLayout


@dataclass(frozen=True)
class FiniteScalarConfig:
    """A grid.

    Args:
        levels: steps of each number of a token; their product is the size of the codebook.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)

    def __post_init__(self) -> None:
        if not self.levels or min(self.levels) < 3:
            raise SettingError(f"levels: expected each at least 3, got {list(self.levels)}")


class FiniteScalarBottleneck(DiscreteBottleneck):
    """Every number of a token rounded to one of a few steps.

    Args:
        config: its settings.
        layout: of the latent.
        width: of the features.
        condition_dim: width of the condition.
    """

    def __init__(
        self, config: FiniteScalarConfig, layout: LatentLayout, width: int, condition_dim: int
    ) -> None:
        size = math.prod(config.levels)
        super().__init__(layout, width, len(config.levels), size, 1, condition_dim)
        self.quantizer: nn.Module = quantizers().FSQ(list(config.levels))

    def quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """See DiscreteBottleneck."""
        quantized, codes = self.quantizer(tokens)
        return quantized, codes.to(torch.int64)[..., None], {}

    def entries(self, codes: Tensor) -> Tensor:
        """See DiscreteBottleneck."""
        found: Tensor = self.quantizer.indices_to_codes(codes.squeeze(-1))  # type: ignore[operator]
        return found

    def tables(self) -> Tensor:
        """See DiscreteBottleneck: the grid."""
        device = self.classify.weight.device
        every = torch.arange(self.codebook_size, device=device)[None, :, None]
        return self.entries(every)
