"""Latent refiners: slots in, the same slots out, after they have looked at each other."""

from llgbm.latentwire.refiners.base import REFINERS, Refiner
from llgbm.latentwire.refiners.parts import PARTS

__all__ = ["PARTS", "REFINERS", "Refiner"]
