"""Where in the latent space the training checkpoints are, and who is nearest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.generators.sideways.model.files import SidewaysModel

# Of the mean variance: a latent direction that nothing moves along still has some width.
FLOOR = 1e-2


@dataclass(frozen=True)
class LatentSpace:
    """A Gaussian around the training checkpoints' latents.

    Attributes:
        centres: [n, z], of the training checkpoints.
        mean: [z].
        root: [z, z], lower Cholesky factor of their covariance.
    """

    centres: Tensor
    mean: Tensor
    root: Tensor

    @classmethod
    def of(cls, model: SidewaysModel) -> LatentSpace:
        """Read the training checkpoints."""
        centres = model.centres(model.train_table)
        covariance = torch.cov(centres.T).view(centres.shape[1], centres.shape[1])
        floor = FLOOR * covariance.diagonal().mean().clamp_min(1e-8)
        eased = covariance + floor * torch.eye(len(covariance))
        return cls(centres, centres.mean(0), torch.linalg.cholesky(eased))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw latents [count, z]."""
        drawn = torch.randn(count, len(self.mean), generator=generator)
        return self.from_standard(drawn)

    def from_standard(self, drawn: Tensor) -> Tensor:
        """Latents of numbers [n, z] that are standard normal where checkpoints are."""
        return self.mean + drawn @ self.root.T

    def to_standard(self, z: Tensor) -> Tensor:
        """Undo `from_standard`."""
        moved = (z - self.mean).T
        return torch.linalg.solve_triangular(self.root, moved, upper=False).T

    def distance(self, z: Tensor, other: Tensor) -> Tensor:
        """Half the squared distance in standard deviations, a latent number, [n].

        About 1 between two training checkpoints.
        """
        return 0.5 * (self.to_standard(z) - self.to_standard(other)).square().mean(-1)

    def nearest(self, z: Tensor) -> Tensor:
        """Place of the training checkpoint whose latent is nearest, [n]."""
        return torch.cdist(self.to_standard(z), self.to_standard(self.centres)).argmin(1)
