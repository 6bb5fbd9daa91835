"""Prefix gain: how loudly the reader hears the slots, learned."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.calibration.base import CALIBRATIONS, Calibration
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader


@CALIBRATIONS.register("prefix_gain")
@dataclass(frozen=True)
class PrefixGainCalibrationConfig:
    """One gain for all slots, and one for each place that a slot can stand at.

    Args:
        gain: what the first starts at.
        slots: places; no text may have more slots. 0 learns one gain for all.
    """

    gain: float = 1.0
    slots: int = 512

    def build(self, reader: Reader) -> PrefixGainCalibration:
        """Build it.

        Raises:
            ConfigError: a gain that is not above 0, or a negative number of slots.
        """
        if not self.gain > 0 or self.slots < 0:
            raise ConfigError(
                "calibration: expected a gain above 0 and slots of 0 or more, "
                f"got {self.gain:g} and {self.slots}"
            )
        return PrefixGainCalibration(self)


class PrefixGainCalibration(Calibration):
    """gain * slot_gain[j] * x_j."""

    def __init__(self, config: PrefixGainCalibrationConfig) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(float(config.gain)))
        self.slot_gain = nn.Parameter(torch.ones(config.slots)) if config.slots else None

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See `Calibration.forward`.

        Raises:
            ConfigError: more slots than there are gains.
        """
        if self.slot_gain is None:
            return self.gain * values
        slots = values.shape[1]
        if slots > len(self.slot_gain):
            raise ConfigError(
                f"calibration.slots: expected at least {slots}, as a text has them, "
                f"got {len(self.slot_gain)}"
            )
        return self.gain * self.slot_gain[:slots, None] * values
