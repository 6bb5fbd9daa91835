"""DnDCoding: the scales of the published checkpoints."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

MEAN_SCALE = 8.0
SIZE_SHARE, SIZE_OFFSET, LOG_OFFSET = 0.9, 0.1, 1.6


class ConstantChunkWarning(UserWarning):
    """Chunks of equal entries have no content in DnD's coding."""


@dataclass(frozen=True)
class DnDCoding:
    """Scales [mean * 8, log(0.9 * std + 0.1) + 1.6], as in DnD.

    A chunk of equal entries, such as an untrained B, is 0 / 0 there: its content is NaN, like
    padding, so a masked loss trains nothing in it. Tokens are kept so, and `encode` warns with
    the share of such chunks; `decode` gives their mean in every entry, so zeros come back as
    zeros. A NaN elsewhere stays a NaN. Standard deviations below 1e-5 lose their digits in the
    sum with 0.1 when tokens are float32: use LogStdCoding for new generators.

    Source: arXiv 2506.16406.
    """

    def encode(self, chunks: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise chunks, in warning where some have no content; see Coding."""
        # float64 for two numbers a chunk: the sum with 0.1 leaves little room for rounding.
        size = torch.where(std.isnan(), 1.0, std).double()
        constant = size == 0
        if bool(constant.any()):
            share = float(constant.float().mean())
            warnings.warn(
                f"DnD coding: {share:.0%} of the chunks have equal entries (an untrained lora_B?) "
                "and no content: a masked loss trains nothing in them; LogStdCoding keeps them",
                ConstantChunkWarning,
                stacklevel=3,
            )
        content = (chunks - mean[..., None, None]) / size.float()[..., None, None]
        content = content.masked_fill(constant[..., None, None], math.nan)
        log_size = (SIZE_SHARE * size + SIZE_OFFSET).log() + LOG_OFFSET
        return content, torch.stack([mean * MEAN_SCALE, log_size.float()], dim=-1)

    def decode(self, content: Tensor, scales: Tensor, valid: Tensor) -> Tensor:
        """Undo `encode`; see Coding."""
        halves = scales.double()
        mean = (halves[..., 0] / MEAN_SCALE).mean(-1).float()[..., None, None]
        sizes = ((halves[..., 1] - LOG_OFFSET).exp() - SIZE_OFFSET) / SIZE_SHARE
        size = sizes.mean(-1).float()[..., None, None]
        constant = (content.isnan() | ~valid).all(-1, keepdim=True).all(-2, keepdim=True)
        return torch.where(constant, 0.0, content) * size + mean
