"""Texts and questions: SQuAD by article, your own files, passages, key-value retrieval."""

from llgbm.latentwire.data.base import SOURCES, Source
from llgbm.latentwire.data.parts import PARTS

__all__ = ["PARTS", "SOURCES", "Source"]
