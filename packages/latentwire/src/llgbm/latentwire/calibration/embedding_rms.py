"""Embedding RMS: the slots of a text together are as large as embeddings of text are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.calibration.base import CALIBRATIONS, Calibration
from llgbm.latentwire.calibration.text_embeddings import sample_texts, text_embeddings
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader

# A text of almost nothing is enlarged by no more than this.
LARGEST_GAIN = 1e6


@CALIBRATIONS.register("embedding_rms")
@dataclass(frozen=True)
class EmbeddingRMSCalibrationConfig:
    """One factor a text, so that slots keep their sizes relative to each other.

    What only sets a text's size before this (an adapter's scale) has no effect after it.

    Args:
        scale: what the learned gain starts at.
    """

    scale: float = 1.0

    def build(self, reader: Reader) -> EmbeddingRMSCalibration:
        """Build it.

        Raises:
            ConfigError: a scale that is not above 0.
        """
        if not self.scale > 0:
            raise ConfigError(f"calibration.scale: expected above 0, got {self.scale:g}")
        return EmbeddingRMSCalibration(self.scale, reader)


class EmbeddingRMSCalibration(Calibration):
    """gain * x * target / rms(all real slots of the text), and no slot beyond the table.

    Before the gain, a slot longer than the reader's longest embedding is cut to that length.

    Attributes:
        target: RMS of the reader's embeddings in text.
        largest: RMS of its longest embedding.
    """

    target: Tensor
    largest: Tensor

    def __init__(self, scale: float, reader: Reader) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(float(scale)))
        target = text_embeddings(reader, sample_texts()).rms
        largest = reader.embedding.float().square().mean(-1).max().sqrt()
        self.register_buffer("target", torch.tensor(target), persistent=False)
        self.register_buffer("largest", largest, persistent=False)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See `Calibration.forward`."""
        squares = values.square().mean(-1)
        whole = (squares * mask).sum(1) / mask.sum(1).clamp(min=1)
        least = (self.target / LARGEST_GAIN).square()
        factor = self.target * torch.rsqrt(torch.maximum(whole, least))[:, None]
        size = torch.maximum(squares, least).sqrt() * factor
        factor = factor * (self.largest / size).clamp(max=1)
        return self.gain * factor[..., None] * values
