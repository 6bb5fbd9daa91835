"""Adapters: latents in, vectors of the reader's embedding width out."""

from llgbm.latentwire.adapters.base import ADAPTERS, Adapter
from llgbm.latentwire.adapters.parts import PARTS

__all__ = ["ADAPTERS", "PARTS", "Adapter"]
