"""Embedding transforms: vectors brought nearer to what the reader's embeddings look like."""

from llgbm.latentwire.transforms.base import TRANSFORMS, Transform
from llgbm.latentwire.transforms.parts import PARTS

__all__ = ["PARTS", "TRANSFORMS", "Transform"]
