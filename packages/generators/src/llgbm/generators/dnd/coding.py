"""Coding: how a chunk's mean and standard deviation become the two scales of its token."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Coding(Protocol):
    """What the tokenizer asks of a coding."""

    def encode(self, chunks: Tensor, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise chunks.

        Args:
            chunks: [n, N, r, width] float32; anything at padding.
            mean: [n, N], of the real entries.
            std: [n, N], of the real entries, unbiased; NaN where there is only one.

        Returns:
            Content [n, N, r, width], and scales [n, N, 2].
        """
        ...

    def decode(self, content: Tensor, scales: Tensor, valid: Tensor) -> Tensor:
        """Undo `encode`, differentiably.

        Args:
            content: [n, N, r, width].
            scales: [n, N, 2 halves, 2], as `read_scales` gives them.
            valid: [N, 1, width] bool, false at padding.

        Returns:
            [n, N, r, width]; anything at padding.
        """
        ...
