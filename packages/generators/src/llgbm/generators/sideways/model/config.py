"""Sizes of a sideways VAE and weights of its loss."""

from __future__ import annotations

from dataclasses import dataclass, field

from llgbm.deltas.errors import SettingError, require_at_least, require_seed
from llgbm.generators.sideways.model.encoder import HEADS


@dataclass(frozen=True)
class SidewaysSizes:
    """Sizes of the networks.

    Args:
        latent_dim: of z.
        directions: of weight space that blocks are read and written along; with many, some are of
            single training runs, and unseen runs have nothing along them.
        width: inside; a multiple of the 4 attention heads.
        members: of the ensemble that predicts metrics.
    """

    latent_dim: int = 16
    directions: int = 6
    width: int = 64
    members: int = 5

    def __post_init__(self) -> None:
        require_at_least(1, latent_dim=self.latent_dim, directions=self.directions)
        require_at_least(2, members=self.members)
        if self.width < HEADS or self.width % HEADS:
            raise SettingError(f"width: expected a multiple of {HEADS}, got {self.width}")


@dataclass(frozen=True)
class SidewaysLossWeights:
    """Weights of the terms; that of the metrics, which is what the latent is for, is 1.

    Args:
        recon: mean squared error of blocks along the directions, standardised (seed 003: 0.1).
        beta: of the divergence from a standard normal, mean over the latent's numbers (seed: 0.1).
        dynamics: of latents and metrics that are predicted from earlier checkpoints.
    """

    recon: float = 0.1
    beta: float = 0.1
    dynamics: float = 0.3

    def __post_init__(self) -> None:
        require_at_least(0, recon=self.recon, beta=self.beta, dynamics=self.dynamics)


@dataclass(frozen=True)
class SidewaysTraining:
    """How a sideways VAE is fitted.

    Args:
        steps: optimiser steps.
        runs_per_step: runs whose checkpoints make a batch.
        lr: learning rate, falling to zero along a cosine.
        weight_decay: of AdamW.
        noise: standard deviation of what is added to what the encoder reads, standardised.
        validate_every: steps between looks at the validation runs, which choose the best step.
        test_share: share of runs for validation, and of runs for testing.
        seed: of the split, of initialisation and of batches.
    """

    steps: int = 600
    runs_per_step: int = 4
    lr: float = 4e-3
    weight_decay: float = 1e-2
    noise: float = 0.1
    validate_every: int = 20
    test_share: float = 0.2
    seed: int = 0
    sizes: SidewaysSizes = field(default_factory=SidewaysSizes)
    weights: SidewaysLossWeights = field(default_factory=SidewaysLossWeights)

    def __post_init__(self) -> None:
        require_at_least(
            1,
            steps=self.steps,
            runs_per_step=self.runs_per_step,
            validate_every=self.validate_every,
        )
        require_at_least(0, lr=self.lr, weight_decay=self.weight_decay, noise=self.noise)
        require_seed(self.seed)
        if not 0 < self.test_share < 0.5:
            raise SettingError(f"test_share: expected between 0 and 0.5, got {self.test_share:g}")
