"""Rows of the table: what a reader is given in place of a context."""

from llgbm.latentwire.evaluation.rows.base import ROWS, Row, RowConfig, Setting
from llgbm.latentwire.evaluation.rows.parts import PARTS

__all__ = ["PARTS", "ROWS", "Row", "RowConfig", "Setting"]
