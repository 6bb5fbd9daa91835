"""Training that bears rounding: latents are rounded as the wire rounds them, gradients are not."""

from __future__ import annotations

from dataclasses import dataclass

from llgbm.latentwire.bottlenecks.base import BOTTLENECKS, Bottleneck
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.wire.quantise import BLOCK, INT_BITS, dequantise, quantise


@BOTTLENECKS.register("rounding")
@dataclass(frozen=True)
class RoundingConfig:
    """Whole numbers times fp16 scales, in training and in evaluation.

    Args:
        bits: of a number: 8, 6 or 4. A file of scheme `int8`, `int6` or `int4` with the same
            block then holds the latents exactly.
        block: channels that share a scale; 0 for a scale a slot.
    """

    bits: int = 4
    block: int = BLOCK

    def build(self, width: int, reader: Reader) -> Rounding:
        """Build it.

        Raises:
            ConfigError: other bits, or a negative block.
        """
        if self.bits not in INT_BITS or self.block < 0:
            raise ConfigError(
                f"bottleneck: expected bits of {INT_BITS} and no negative block, "
                f"got {self.bits} and {self.block}"
            )
        return Rounding(self, width)


class Rounding(Bottleneck):
    """Rounding with the gradient of the identity."""

    def __init__(self, config: RoundingConfig, width: int) -> None:
        super().__init__(width)
        self.config = config

    def forward(self, latents: Latents) -> Latents:
        """See `Bottleneck.forward`."""
        # What stands at masked slots must not set a scale.
        values, block = latents.replaced(latents.values).values, self.config.block
        rounded = dequantise(*quantise(values.detach(), self.config.bits, block), block)
        # Adds an exact zero, so that training sees the very numbers of the wire.
        return latents.replaced(rounded + (values - values.detach()))
