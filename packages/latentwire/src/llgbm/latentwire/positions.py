"""Where something stands, as a vector: sines and cosines of its position."""

from __future__ import annotations

import torch
from torch import Tensor

# Positions over a full turn of the slowest wave.
SLOWEST = 10_000.0


def sinusoids(places: Tensor, width: int) -> Tensor:
    """Sines and cosines [..., width] float32 of positions [...], at wavelengths from 2 pi up.

    Source: Vaswani et al. 2017, section 3.5.
    """
    half = (width + 1) // 2
    rates = SLOWEST ** (-torch.arange(half, device=places.device) / half)
    angles = places.float()[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=-1)[..., :width]
