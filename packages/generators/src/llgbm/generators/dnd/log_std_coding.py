"""LogStdCoding: mean and log of the standard deviation, with a floor. The default."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.generators.dnd.dnd_coding import MEAN_SCALE


@dataclass(frozen=True)
class LogStdCoding:
    """Scales [mean * 8, log(max(std, floor))], in float32.

    Every chunk is invertible: one of equal entries has content zero and its mean, so B = 0
    comes back as exact zeros and no entry is masked. The relative precision of the size does
    not depend on the size, unlike in DnD's coding.

    Args:
        floor: smallest standard deviation to divide by.
    """

    floor: float = 1e-6

    def encode(self, chunks: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise chunks; see Coding."""
        size = std.nan_to_num(nan=0.0).clamp_min(self.floor)
        content = (chunks - mean[..., None, None]) / size[..., None, None]
        return content, torch.stack([mean * MEAN_SCALE, size.log()], dim=-1)

    def decode(self, content: Tensor, scales: Tensor, valid: Tensor) -> Tensor:
        """Undo `encode`; see Coding."""
        mean, log_size = scales.mean(-2)[..., None, None, :].unbind(-1)
        return content * log_size.exp() + mean / MEAN_SCALE
