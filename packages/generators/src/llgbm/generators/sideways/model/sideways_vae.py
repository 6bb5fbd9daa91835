"""SidewaysVAE: checkpoint to latent and back, metrics of a latent, and where training moves it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llgbm.generators.sideways.model.basis import STATISTICS
from llgbm.generators.sideways.model.config import SidewaysSizes
from llgbm.generators.sideways.model.decoder import CheckpointDecoder
from llgbm.generators.sideways.model.dynamics import LatentDynamics
from llgbm.generators.sideways.model.encoder import CheckpointEncoder
from llgbm.generators.sideways.model.metric_scale import MetricScale
from llgbm.generators.sideways.model.predictor import MetricPredictor
from llgbm.generators.sideways.model.scales import Scale
from llgbm.generators.sideways.model.table import CheckpointTable


class SidewaysVAE(nn.Module):
    """The networks of seed 003 with their units.

    Args:
        sizes: of the networks.
        blocks: of a checkpoint.
        k: directions of the basis.
        metrics: predicted ones.
        hyperparameters: of a run.
    """

    def __init__(
        self, sizes: SidewaysSizes, blocks: int, k: int, metrics: int, hyperparameters: int
    ) -> None:
        super().__init__()
        z, width = sizes.latent_dim, sizes.width
        # One spread a direction, whatever the block: blocks that hardly move stay small.
        self.coefficient_scale = Scale(k, centred=False)
        self.statistic_scale = Scale(blocks, len(STATISTICS))
        self.metric_scale = MetricScale(metrics)
        self.hyperparameter_scale = Scale(hyperparameters)
        self.encoder = CheckpointEncoder(blocks, k + len(STATISTICS), len(STATISTICS), width, z)
        self.decoder = CheckpointDecoder(blocks, k, width, z)
        self.predictor = MetricPredictor(z, metrics, sizes.members, width)
        self.dynamics = LatentDynamics(z, hyperparameters, width)

    def fit_scales(self, table: CheckpointTable) -> None:
        """Take the units of everything from the training runs."""
        self.coefficient_scale.fit(table.coefficients.flatten(0, 1))
        self.statistic_scale.fit(table.statistics)
        self.metric_scale.fit(table.metrics)
        self.hyperparameter_scale.fit(table.hyperparameters)

    def features(self, coefficients: Tensor, statistics: Tensor) -> Tensor:
        """What the encoder reads, [n, b, k + 3]."""
        return torch.cat(
            [self.coefficient_scale(coefficients), self.statistic_scale(statistics)], dim=-1
        )

    def encode(self, coefficients: Tensor, statistics: Tensor) -> Tensor:
        """Centres of latents [n, z]."""
        mu: Tensor = self.encoder(self.features(coefficients, statistics))[0]
        return mu

    def predict(self, z: Tensor, moved: bool = False) -> tuple[Tensor, Tensor]:
        """Metrics of latents and their standard errors, [..., m] each, in their own units.

        Args:
            z: latents [..., z].
            moved: by the dynamics: errors are those of trajectories.
        """
        mean, error = self.predictor(z, moved)
        back = self.metric_scale.back
        return back(mean), (back(mean + error) - back(mean - error)) / 2

    def decode(self, z: Tensor) -> Tensor:
        """Coefficients [n, b, k] of latents, for `BlockBasis.write`."""
        return self.coefficient_scale.back(self.decoder(z))
