"""Poolers: one vector a position in, one vector a slot out."""

from llgbm.latentwire.poolers.base import POOLERS, Pooler
from llgbm.latentwire.poolers.parts import PARTS

__all__ = ["PARTS", "POOLERS", "Pooler"]
