"""DeltaDecoder: the delta of a latent, without writing its adapter (seed 000, the fast path)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llgbm.deltas.by_layer import layer_rms
from llgbm.generators.update_sketch import SMALLEST_SCALE


class DeltaDecoder(nn.Module):
    """z -> delta by two layers; the last starts at zero.

    Args:
        size: numbers of a latent.
        hidden: units.
        delta_shape: of one adapter's delta.

    Attributes:
        delta_scale: buffer, typical size of a delta's entries in each layer.
    """

    delta_scale: Tensor

    def __init__(self, size: int, hidden: int, delta_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.delta_shape = tuple(delta_shape)
        self.inner = nn.Linear(size, hidden)
        self.outer = nn.Linear(hidden, math.prod(self.delta_shape))
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        layers = torch.zeros(1, *self.delta_shape)
        self.register_buffer("delta_scale", torch.full_like(layer_rms(layers), 0.1))

    def forward(self, z: Tensor) -> Tensor:
        """Return deltas [b, *delta_shape] float32 of latents [b, size]."""
        predicted = self.outer(F.gelu(self.inner(z)))
        return predicted.unflatten(-1, self.delta_shape) * self.delta_scale

    @torch.no_grad()
    def fit_scale(self, deltas: Tensor) -> None:
        """Read the size of deltas off teachers' [n, *delta_shape]."""
        self.delta_scale.copy_(layer_rms(deltas).clamp_min(SMALLEST_SCALE))
