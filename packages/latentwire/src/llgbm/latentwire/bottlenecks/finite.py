"""Finite scalar quantisation: a slot as a few bounded numbers, each of a few levels.

Mentzer et al. 2023 (arXiv 2309.15505); the rounding is vector-quantize-pytorch's. Slots are brought
to one size, projected to groups of few numbers, rounded, and projected back to the width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.bottlenecks.base import BOTTLENECKS, DiscreteBottleneck
from llgbm.latentwire.bottlenecks.package import quantizers
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.wire.header import LARGEST_CODEBOOK

# Draws from which the size of what comes out is found.
DRAWS = 4096
TINY = 1e-12


@BOTTLENECKS.register("fsq")
@dataclass(frozen=True)
class FiniteConfig:
    """Groups of rounded numbers; a slot takes groups * ceil(log2 product of levels) bits.

    Args:
        levels: of each number of a group, at least 3; their product is a code's range.
        groups: codes a slot. By default 6 codes of 10 bits.
    """

    levels: tuple[int, ...] = (8, 5, 5, 5)
    groups: int = 6

    def build(self, width: int, reader: Reader) -> FiniteBottleneck:
        """Build it.

        Raises:
            ConfigError: no levels or groups, too few levels, or too many codes.
            MissingPackageError: vector-quantize-pytorch is not installed.
        """
        product = math.prod(self.levels)
        if not self.levels or min(self.levels) < 3 or product > LARGEST_CODEBOOK:
            raise ConfigError(
                f"bottleneck.levels: expected at least 3 each, {LARGEST_CODEBOOK} multiplied at "
                f"most, got {list(self.levels)}"
            )
        if self.groups < 1:
            raise ConfigError(f"bottleneck.groups: expected at least 1, got {self.groups}")
        return FiniteBottleneck(self, width, reader)


class FiniteBottleneck(DiscreteBottleneck):
    """W_out round(tanh(W_in z / rms(z))).

    W_in starts orthogonal and W_out as its transpose, scaled so that slots come out as large as the
    reader's embeddings (anchor rule 17).
    """

    def __init__(self, config: FiniteConfig, width: int, reader: Reader) -> None:
        super().__init__(width)
        self.groups, self.codebook = config.groups, math.prod(config.levels)
        numbers = len(config.levels) * config.groups
        self.project_in, self.project_out = nn.Linear(width, numbers), nn.Linear(numbers, width)
        self.rounding = quantizers().FSQ(
            levels=list(config.levels), num_codebooks=config.groups, keep_num_codebooks_dim=True
        )
        with torch.no_grad():
            nn.init.orthogonal_(self.project_in.weight, max(1.0, numbers / width) ** 0.5)
            self.project_in.bias.zero_()
            self.project_out.bias.zero_()
            self.project_out.weight.copy_(self.project_in.weight.T)
            drawn = self._rounded(torch.randn(1, DRAWS, width))[0]
            size = self.project_out(drawn).square().mean().sqrt()
            self.project_out.weight.mul_(reader.embedding_rms / size)

    def forward(self, latents: Latents) -> Latents:
        """See `Bottleneck.forward`."""
        return latents.replaced(self.project_out(self._rounded(latents.values)[0]))

    @torch.no_grad()
    def codes(self, latents: Latents) -> Tensor:
        """See `DiscreteBottleneck.codes`."""
        return self._rounded(latents.values)[1].long() * latents.mask[..., None]

    def values_of(self, codes: Tensor) -> Tensor:
        """See `DiscreteBottleneck.values_of`."""
        return self.project_out(self.rounding.indices_to_codes(codes))

    def _rounded(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Rounded numbers [b, m, numbers] and codes [b, m, g]."""
        size = values.square().mean(-1, keepdim=True).add(TINY).sqrt()
        numbers, codes = self.rounding(self.project_in(values / size))
        # The very levels of the codes, with the gradient of what was rounded.
        levels = self.rounding.indices_to_codes(codes)
        return levels + (numbers - numbers.detach()), codes
