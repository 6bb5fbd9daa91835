"""Latent: what a bottleneck says of a batch of adapters, and how its numbers are laid out."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class LatentLayout:
    """z = [global part | code of the first layer | ... | code of the last layer].

    Args:
        global_dim: numbers of the global part.
        layers: layers that have a code.
        layer_dim: numbers of a layer's code; 0 for a flat latent.
    """

    global_dim: int
    layers: int = 0
    layer_dim: int = 0

    @property
    def size(self) -> int:
        """Numbers of a latent."""
        return self.global_dim + self.layers * self.layer_dim

    def join(self, whole: Tensor, by_layer: Tensor | None) -> Tensor:
        """Join a global part [b, global_dim] and codes [layers, b, layer_dim] to [b, size]."""
        if by_layer is None or not self.layer_dim:
            return whole
        return torch.cat([whole, by_layer.transpose(0, 1).flatten(1)], dim=1)

    def split(self, z: Tensor) -> tuple[Tensor, Tensor | None]:
        """Undo `join`.

        Raises:
            ValueError: another number of entries.
        """
        if z.shape[-1] != self.size:
            raise ValueError(f"z: expected {self.size} numbers, got {z.shape[-1]}")
        if not self.layer_dim:
            return z, None
        codes = z[:, self.global_dim :].unflatten(1, (self.layers, self.layer_dim))
        return z[:, : self.global_dim], codes.transpose(0, 1)


@dataclass(frozen=True)
class Latent:
    """The latent of b adapters.

    Attributes:
        z: [b, size], what is decoded.
        mu: [b, size], its centre: z without noise.
        logvar: [b, size]; None where the posterior is a point.
        codes: [b, tokens] int64 indices into a codebook; None where there is none.
        rates: [b, size] or [b, 1], nats that z costs under the prior, unit by unit where the
            prior allows; None where nothing is told apart.
        losses: scalars that the bottleneck wants small, by name.
    """

    z: Tensor
    mu: Tensor
    logvar: Tensor | None = None
    codes: Tensor | None = None
    rates: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
