"""Ways in: how a frozen reader is given latents."""

from llgbm.latentwire.ways.base import WAYS, Way
from llgbm.latentwire.ways.parts import PARTS

__all__ = ["PARTS", "WAYS", "Way"]
