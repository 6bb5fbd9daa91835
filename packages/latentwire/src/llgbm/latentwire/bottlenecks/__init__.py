"""Bottlenecks: latents in, latents out that the wire carries in few bits."""

from llgbm.latentwire.bottlenecks.base import BOTTLENECKS, Bottleneck, DiscreteBottleneck
from llgbm.latentwire.bottlenecks.parts import PARTS

__all__ = ["BOTTLENECKS", "PARTS", "Bottleneck", "DiscreteBottleneck"]
