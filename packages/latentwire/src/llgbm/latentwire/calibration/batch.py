"""Batch calibration: each dimension at the mean and spread of embeddings of text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from llgbm.latentwire.calibration.base import CALIBRATIONS, Calibration
from llgbm.latentwire.calibration.text_embeddings import sample_texts, text_embeddings
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.transforms.moments import RunningMoments, matched


@CALIBRATIONS.register("batch")
@dataclass(frozen=True)
class BatchCalibrationConfig:
    """Follow the vectors' moments in training, and map them to those of embeddings in text.

    Args:
        momentum: share of a batch in the running moments.
    """

    momentum: float = 0.1

    def build(self, reader: Reader) -> BatchCalibration:
        """Build it.

        Raises:
            ConfigError: a momentum out of range.
        """
        if not 0 < self.momentum <= 1:
            raise ConfigError(
                f"calibration.momentum: expected above 0, at most 1, got {self.momentum:g}"
            )
        return BatchCalibration(self, reader)


class BatchCalibration(Calibration):
    """(x - running mean) / running std * std of text + mean of text.

    Running moments are used in training too, after they have followed the batch: what training
    sees is what evaluation sees, and a batch of one slot is as good as any. It begins as the
    identity. Targets come from a small sample of text; `fit` takes them from the training split.
    """

    target: Tensor
    target_variance: Tensor

    def __init__(self, config: BatchCalibrationConfig, reader: Reader) -> None:
        super().__init__()
        text = text_embeddings(reader, sample_texts())
        self.register_buffer("target", text.mean)
        self.register_buffer("target_variance", text.variance)
        self.running = RunningMoments(text.mean, text.variance, config.momentum)

    def fit(self, reader: Reader, texts: Sequence[str]) -> None:
        """Take targets from texts and begin anew; before training.

        Raises:
            PromptError: texts without tokens.
        """
        text = text_embeddings(reader, texts)
        for buffer in (self.target, self.running.mean):
            buffer.copy_(text.mean)
        for buffer in (self.target_variance, self.running.variance):
            buffer.copy_(text.variance)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See `Calibration.forward`; in training it also moves the running moments."""
        if self.training:
            self.running.update(values[mask])
        running = self.running
        std = self.target_variance.sqrt()
        return matched(values, running.mean, running.variance, self.target, std)
