"""Encoders: text in, one vector a position out."""

from llgbm.latentwire.encoders.base import ENCODERS, Encoder
from llgbm.latentwire.encoders.parts import PARTS

__all__ = ["ENCODERS", "PARTS", "Encoder"]
