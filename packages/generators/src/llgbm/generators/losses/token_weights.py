"""Squared error of weights chunk by chunk, each in units of the teacher's own spread.

What DnD's token loss asks of a generator whose output is weights and not tokens: a token holds a
chunk of a factor, normalised by the chunk's mean and standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.deltas.errors import SettingError
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses.weights import check_pair

# A chunk that the teacher left constant has no spread to divide by: DnD masks it, so do we.
SMALLEST_STD = 1e-8


@dataclass(frozen=True)
class TokenWeightLoss:
    """Mean over entries of ((generated - teacher) / standard deviation of the chunk)².

    Every chunk counts alike, however small its weights are; depends on the gauge.

    Args:
        width: columns of a chunk; of A, and of B transposed.

    Raises:
        SettingError: a width below 1.

    Source: arXiv 2506.16406 (DnD), seed 001, L_weights.
    """

    width: int = 64

    def __post_init__(self) -> None:
        if self.width < 1:
            raise SettingError(f"width: expected at least 1, got {self.width}")

    @property
    def name(self) -> str:
        """What it compares."""
        return f"chunks of {self.width}"

    def __call__(
        self, generated: LoRAWeights, teacher: LoRAWeights, whole: LoRAWeights | None = None
    ) -> Tensor:
        """Return the mean squared error in units of each chunk's spread.

        Args:
            generated, teacher, whole: see WeightDistance.

        Returns:
            Scalar; 1 for the teacher's chunks' means.

        Raises:
            ValueError: specs or n that differ.
        """
        check_pair(generated, teacher)
        teacher = teacher.detach()
        counted = teacher if whole is None else whole.detach()
        errors, entries = [], []
        for path in teacher.spec.paths:
            for ours, theirs, all_theirs in (
                (generated.lora_A[path], teacher.lora_A[path], counted.lora_A[path]),
                (generated.lora_B[path].mT, teacher.lora_B[path].mT, counted.lora_B[path].mT),
            ):
                chunks, variance, _ = self._variances(theirs)
                error = (self._cut(ours)[0] - chunks).square()
                error = error / variance.clamp_min(SMALLEST_STD**2)
                errors.append(torch.where(variance > SMALLEST_STD**2, error, 0.0).sum())
                _, variance, size = self._variances(all_theirs)
                entries.append(((variance > SMALLEST_STD**2) * size).sum())
        total = torch.stack(entries).sum().clamp_min(1)
        return torch.stack(errors).sum() / total * (counted.n / teacher.n)

    def _variances(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Chunks of rows, their variances [n, 1, chunks, 1] and entries [chunks, 1]."""
        chunks, real = self._cut(rows)
        size = real.sum(1, keepdim=True) * rows.shape[1]
        mean = chunks.sum((1, 3), keepdim=True) / size
        centred = torch.where(real, chunks - mean, 0.0)
        return chunks, centred.square().sum((1, 3), keepdim=True) / size, size

    def _cut(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [n, r, columns] as chunks [n, r, chunks, width], zero at padding, and where real."""
        columns = rows.shape[-1]
        chunks = -(-columns // self.width)
        padded = F.pad(rows, (0, chunks * self.width - columns))
        real = torch.arange(chunks * self.width, device=rows.device) < columns
        return padded.unflatten(-1, (chunks, self.width)), real.view(chunks, self.width)
