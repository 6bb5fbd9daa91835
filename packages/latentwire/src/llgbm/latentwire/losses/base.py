"""What every loss term is, and where terms are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.registry import Registry

# A config's `build(compressor: Compressor, reader: Reader) -> Term`; configs also hold
# `weight: float` and `schedule` (see schedules.py).
TERMS = Registry("loss")


class Term(nn.Module, ABC):
    """One named part of a loss; what it trains of its own (a head) is its parameters.

    Attributes:
        logged: numbers of the last call that are worth a line in the metrics.
        reads_layers: whether it asks for `Step.scored_layers`.
    """

    name: ClassVar[str]
    reads_layers: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self.logged: dict[str, float] = {}

    @abstractmethod
    def forward(self, step: Step) -> Tensor:
        """The term's scalar, float32, before its weight."""
