"""What every bottleneck is, and where bottlenecks are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.registry import Registry
from llgbm.latentwire.wire.bits import bits_of

# A config's `build(width: int, reader: Reader) -> Bottleneck`, width that of the latents.
BOTTLENECKS = Registry("bottleneck")


class Bottleneck(nn.Module, ABC):
    """Makes latents survive the wire: what comes out is what a file can hold.

    Attributes:
        width: z of the latents, in and out.
        last_loss: scalar that the last call in training asks to have added to the loss; 0 in
            evaluation, and where a bottleneck asks for nothing.
    """

    name: ClassVar[str]
    last_loss: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.last_loss = torch.zeros(())

    @abstractmethod
    def forward(self, latents: Latents) -> Latents:
        """The same slots with values that the wire carries; gradients pass straight through."""


class DiscreteBottleneck(Bottleneck):
    """A bottleneck whose slots are a few codes each.

    Attributes:
        groups: g, codes a slot.
        codebook: values that a code can have.
    """

    groups: int
    codebook: int

    @property
    def bits(self) -> int:
        """Bits of a slot."""
        return self.groups * bits_of(self.codebook)

    @abstractmethod
    def codes(self, latents: Latents) -> Tensor:
        """Codes [b, m, g] int64, from 0 to `codebook` - 1; 0 where the mask is False."""

    @abstractmethod
    def values_of(self, codes: Tensor) -> Tensor:
        """Values [..., z] float32 of codes [..., g] that were checked."""

    def from_codes(self, codes: Tensor) -> Tensor:
        """Values [b, m, z] float32 of codes [b, m, g] int64, on the bottleneck's device.

        Raises:
            ConfigError: another number of codes a slot, no whole numbers, or codes out of range.
        """
        if codes.shape[-1] != self.groups or codes.is_floating_point():
            raise ConfigError(
                f"codes: expected whole numbers, {self.groups} a slot, "
                f"got {codes.dtype} and {codes.shape[-1]}"
            )
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook:
            raise ConfigError(
                f"codes: expected from 0 to {self.codebook - 1}, "
                f"got from {int(codes.min())} to {int(codes.max())}"
            )
        return self.values_of(codes.long().to(self.device))

    @property
    def device(self) -> torch.device:
        """Where its codebooks are."""
        return next(iter(self.state_dict().values())).device


@BOTTLENECKS.register("none")
@dataclass(frozen=True)
class NoBottleneckConfig:
    """Leave latents as they are."""

    def build(self, width: int, reader: Reader) -> NoBottleneck:
        """Build it."""
        return NoBottleneck(width)


class NoBottleneck(Bottleneck):
    """The identity."""

    def forward(self, latents: Latents) -> Latents:
        """Return `latents`."""
        return latents
