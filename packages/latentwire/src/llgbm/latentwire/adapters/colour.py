"""Colour calibration: vectors get the mean and the covariance of the reader's embeddings.

The covariance is taken as low-rank plus a constant: the directions in which embeddings vary most,
each exactly, and one variance for all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.adapters.base import ADAPTERS, Adapter
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.reader import Reader


@ADAPTERS.register("colour")
@dataclass(frozen=True)
class ColourAdapterConfig:
    """A linear map, whitening by what has been seen, and colouring as embeddings are.

    Args:
        rank: directions of the embeddings' covariance that are matched one by one; below the
            reader's width.
        momentum: share of a training batch in the running statistics.
        most: no direction is stretched or shrunk by more; at least 1.
    """

    rank: int = 32
    momentum: float = 0.01
    most: float = 4.0

    def build(self, width: int, reader: Reader) -> ColourAdapter:
        """Build it on the reader's device.

        Raises:
            ConfigError: a rank the reader has no room for, or a momentum or bound out of range.
        """
        if not 1 <= self.rank < reader.width:
            raise ConfigError(f"adapter.rank: expected 1 to {reader.width - 1}, got {self.rank}")
        if not 0 < self.momentum <= 1 or self.most < 1:
            raise ConfigError(
                "adapter: expected a momentum above 0, at most 1, and `most` of at least 1, "
                f"got {self.momentum:g}, {self.most:g}"
            )
        return ColourAdapter(self, width, reader).to(reader.device)


class ColourAdapter(Adapter):
    """mean + shift + colour(whiten(W z)) (seed 004, `colorize`).

    Whitening uses running statistics, in training as in evaluation: a text's vectors never depend
    on the batch that it stands in. They are taken over real slots, and only while training. At
    the start whitening and colouring undo each other: with equal widths the whole is the
    identity, otherwise W is random and already has the embeddings' covariance.

    `mix`, `gain` and `shift` learn where the reader wants another size than embeddings have.
    Without them W would grow for ever against statistics that follow it.
    """

    basis: Tensor
    deviation: Tensor
    rest: Tensor
    embedding_mean: Tensor
    mean: Tensor
    covariance: Tensor
    variance: Tensor

    def __init__(self, config: ColourAdapterConfig, width: int, reader: Reader) -> None:
        super().__init__()
        self.config = config
        mean, basis, deviation, rest = embedding_statistics(reader, config.rank)
        # Saved with the rest: learned numbers are coordinates in this basis, whose signs another
        # machine may choose otherwise.
        self.register_buffer("embedding_mean", mean)
        self.register_buffer("basis", basis)
        self.register_buffer("deviation", deviation)
        self.register_buffer("rest", rest)
        self.linear = nn.Linear(width, reader.width, bias=False)
        same = width == reader.width
        with torch.no_grad():
            self.linear.weight.copy_(torch.eye(width) if same else self._coloured_start(width))
        # Of what the linear map gives, in units of the embeddings' deviations.
        self.register_buffer("mean", mean.clone() if same else torch.zeros_like(mean))
        self.register_buffer("covariance", torch.eye(config.rank))
        self.register_buffer("variance", torch.ones(()))
        self.mix = nn.Parameter(torch.eye(config.rank))
        self.gain = nn.Parameter(torch.ones(()))
        self.shift = nn.Parameter(torch.zeros(reader.width))

    def forward(self, latents: Latents) -> Tensor:
        """See `Adapter.forward`."""
        values = self.linear(latents.values)
        coordinates, others = self._split(values - self.mean)
        white = coordinates @ self._whitening() @ self.mix
        limit = self.config.most**2
        others = others * self.gain * self.variance.clamp(1 / limit, limit).rsqrt()
        if self.training:
            self._observe(values.detach()[latents.mask])
        coloured = (white * self.deviation) @ self.basis.T
        return self.embedding_mean + self.shift + coloured + others

    def _split(self, centred: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates [..., rank] in units of the embeddings' deviations, and what is left over."""
        along = centred @ self.basis
        return along / self.deviation, centred - along @ self.basis.T

    @torch.no_grad()
    def _whitening(self) -> Tensor:
        """Inverse square root [rank, rank] of the covariance, within the bound."""
        limit = self.config.most**2
        values, vectors = torch.linalg.eigh(self.covariance)
        return (vectors * values.clamp(1 / limit, limit).rsqrt()) @ vectors.T

    @torch.no_grad()
    def _observe(self, seen: Tensor) -> None:
        """Move the statistics towards those of vectors [n, h]."""
        share = self.config.momentum
        # New tensors, not changes in place: the graph of this step may still need the old ones.
        self.mean = self.mean.lerp(seen.mean(0), share)
        coordinates, others = self._split(seen - self.mean)
        self.covariance = self.covariance.lerp(coordinates.T @ coordinates / len(seen), share)
        free = seen.shape[1] - self.config.rank
        variance = others.square().sum(1).mean() / (free * self.rest**2)
        self.variance = self.variance.lerp(variance, share)

    def _coloured_start(self, width: int) -> Tensor:
        """Random weights [h, width] whose outputs have the embeddings' covariance about zero."""
        device = self.basis.device
        along = torch.randn(self.config.rank, width).to(device) * self.deviation[:, None]
        free = self.rest * torch.randn(len(self.basis), width).to(device)
        free = free - self.basis @ (self.basis.T @ free)
        return (self.basis @ along + free) / width**0.5


def embedding_statistics(reader: Reader, rank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and low-rank covariance of a reader's embeddings over its vocabulary.

    Returns:
        (mean [h], basis [h, rank] of orthonormal columns, deviation [rank] along them, deviation
        [] along any other direction), float32 on the reader's device.

    Source: Tipping and Bishop 1999, probabilistic PCA, equations 7 and 8.
    """
    table = reader.embedding.float()
    mean = table.mean(0)
    centred = table - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(table))
    # A direction in which embeddings do not vary at all still gets a unit to count in.
    values = values.clamp(min=float(values.max()) * 1e-6)
    deviation = values[-rank:].sqrt()
    return mean, vectors[:, -rank:].clone(), deviation, values[:-rank].mean().sqrt()
