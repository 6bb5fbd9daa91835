"""Batch distribution: each dimension at the mean and spread that it has in the embedding table."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.transforms.base import TRANSFORMS, Transform
from llgbm.latentwire.transforms.moments import RunningMoments, matched


@TRANSFORMS.register("batch")
@dataclass(frozen=True)
class BatchTransformConfig:
    """Normalise over the batch's slots in training, over running statistics in evaluation.

    Args:
        momentum: share of a batch in the running statistics.
        prior: slots that the running statistics count for beside the batch's: a batch of few
            slots, even one, does not lose what tells them apart.
    """

    momentum: float = 0.1
    prior: float = 16.0

    def build(self, reader: Reader) -> BatchTransform:
        """Build it.

        Raises:
            ConfigError: a momentum or prior out of range.
        """
        if not 0 < self.momentum <= 1 or self.prior <= 0:
            raise ConfigError(
                "transform: expected a momentum above 0, at most 1, and a prior above 0, "
                f"got {self.momentum:g} and {self.prior:g}"
            )
        return BatchTransform(self, reader)


class BatchTransform(Transform):
    """(x - mean) / std * table std + table mean; begins as the identity in evaluation."""

    target: Tensor
    target_std: Tensor

    def __init__(self, config: BatchTransformConfig, reader: Reader) -> None:
        super().__init__()
        self.prior = config.prior
        table = reader.embedding.float()
        mean, variance = table.mean(0), table.var(0, correction=0)
        self.register_buffer("target", mean, persistent=False)
        self.register_buffer("target_std", variance.sqrt(), persistent=False)
        self.running = RunningMoments(mean, variance, config.momentum)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See `Transform.forward`; in training it also moves the running statistics."""
        mean, variance = self.running.mean, self.running.variance
        if self.training:
            rows = values[mask]
            mean, variance = self.running.mixed(rows, len(rows) / (len(rows) + self.prior))
            self.running.update(rows)
        return matched(values, mean, variance, self.target, self.target_std)
