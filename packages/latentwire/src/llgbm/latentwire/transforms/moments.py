"""Mean and variance of each dimension of vectors, followed over training."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# No dimension is enlarged by more than this, however little it varies.
LARGEST_GAIN = 1e3


class RunningMoments(nn.Module):
    """Moving mean and variance, per dimension; buffers, so that they are saved.

    Args:
        mean: [h], first mean.
        variance: [h], first variance.
        momentum: share of a batch in the new moments, above 0, at most 1.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, mean: Tensor, variance: Tensor, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", mean.clone())
        self.register_buffer("variance", variance.clone())

    def mixed(self, rows: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Moments of a mixture of vectors [n, h], at a share, and of what was seen before.

        Differentiable in the vectors.
        """
        mean, shift = rows.mean(0), rows.mean(0) - self.mean
        variance = rows.var(0, correction=0)
        return (
            share * mean + (1 - share) * self.mean,
            share * variance + (1 - share) * self.variance + share * (1 - share) * shift.square(),
        )

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        """Follow a batch of vectors [n, h]."""
        mean, variance = self.mixed(rows, self.momentum)
        self.mean.copy_(mean)
        self.variance.copy_(variance)


def matched(
    values: Tensor, mean: Tensor, variance: Tensor, target: Tensor, target_std: Tensor
) -> Tensor:
    """Vectors with moments `mean`, `variance` [h] mapped to a target mean and std [h]."""
    # A dimension that is the same in every embedding has no spread to divide by either.
    least = (target_std / LARGEST_GAIN).clamp(min=1e-12)
    gain = target_std / torch.maximum(variance, least.square()).sqrt()
    return (values - mean) * gain + target
