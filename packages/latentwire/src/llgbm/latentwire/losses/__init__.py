"""Loss terms by name, each weighed on a schedule."""

from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.objective import Objective
from llgbm.latentwire.losses.parts import PARTS

__all__ = ["PARTS", "TERMS", "Objective", "Term"]
