"""What numbers are divided by before networks see them, from the training runs alone."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST = 1e-6


class Scale(nn.Module):
    """Mean and spread of some numbers; those of `fit`.

    Args:
        shape: of one row of numbers.
        centred: whether the mean is taken out.
    """

    mean: Tensor
    spread: Tensor

    def __init__(self, *shape: int, centred: bool = True) -> None:
        super().__init__()
        self.centred = centred
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("spread", torch.ones(shape))

    def fit(self, values: Tensor) -> None:
        """Take the mean and the spread of [n, *shape]; what never changes keeps its size."""
        if self.centred:
            self.mean = values.mean(0)
        spread = (values - self.mean).square().mean(0).sqrt()
        # A spread that is rounding of the values is none.
        still = spread <= SMALLEST * values.abs().amax(0)
        self.spread = torch.where(still, torch.ones_like(spread), spread)

    def forward(self, values: Tensor) -> Tensor:
        """Standardise."""
        return (values - self.mean) / self.spread

    def back(self, standardised: Tensor) -> Tensor:
        """Undo it."""
        return standardised * self.spread + self.mean
