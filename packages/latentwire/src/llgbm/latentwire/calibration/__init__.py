"""Calibration: the size of the vectors that the reader is given."""

from llgbm.latentwire.calibration.base import CALIBRATIONS, Calibration
from llgbm.latentwire.calibration.parts import PARTS

__all__ = ["CALIBRATIONS", "PARTS", "Calibration"]
