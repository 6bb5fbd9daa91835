"""What every calibration is, and where calibrations are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from llgbm.latentwire.reader import Reader
from llgbm.latentwire.registry import Registry

# A config's `build(reader: Reader) -> Calibration`.
CALIBRATIONS = Registry("calibration")


class Calibration(nn.Module, ABC):
    """Sets the scale of vectors just before the reader; close to nothing on real embeddings."""

    name: ClassVar[str]

    def fit(self, reader: Reader, texts: Sequence[str]) -> None:
        """Fit what is fitted once, on all texts of the training split.

        Called before the first step; most calibrations have nothing to fit.
        """

    @abstractmethod
    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Vectors [b, m, h] float32 of slots with mask [b, m], scaled."""


@CALIBRATIONS.register("none")
@dataclass(frozen=True)
class NoCalibrationConfig:
    """Leave the scale as it is."""

    def build(self, reader: Reader) -> NoCalibration:
        """Build it."""
        return NoCalibration()


class NoCalibration(Calibration):
    """The identity."""

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Return `values`."""
        return values
