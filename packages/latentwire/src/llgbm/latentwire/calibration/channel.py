"""Per-channel gain and bias (seed 004: directions that are off, not only sizes)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.calibration.base import CALIBRATIONS, Calibration
from llgbm.latentwire.reader import Reader


@CALIBRATIONS.register("channel")
@dataclass(frozen=True)
class ChannelCalibrationConfig:
    """A learned gain and bias of every dimension; begins as the identity."""

    def build(self, reader: Reader) -> ChannelCalibration:
        """Build it."""
        return ChannelCalibration(reader.width)


class ChannelCalibration(Calibration):
    """gain * x + bias, dimension by dimension."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See `Calibration.forward`."""
        return self.gain * values + self.bias
