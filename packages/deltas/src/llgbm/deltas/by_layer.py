"""Deltas layer by layer: hidden states grow with depth, and no layer should drown the others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# A mean square below this counts as this: adapters that change nothing have no size.
SMALLEST_SQUARE = 1e-24
# A layer that moves less than this share of the one that moves most does not move: next to
# nothing is no unit to measure errors in, so it has that of the other.
SMALLEST_SHARE = 1e-3


def by_layer(deltas: Tensor) -> Tensor:
    """Return deltas with one row a layer.

    Args:
        deltas: [n, probes, layers, hidden]; of any other shape, each counts as one layer.

    Returns:
        [n, layers, numbers].
    """
    if deltas.dim() == 4:
        return deltas.transpose(1, 2).flatten(2)
    return deltas.flatten(1)[:, None]


def layer_rms(deltas: Tensor) -> Tensor:
    """Return the root mean square of each layer over n deltas.

    Args:
        deltas: [n, probes, layers, hidden], or of any other shape.

    Returns:
        [layers, 1] float32, or [] where the shape tells no layers apart: it divides `deltas`. The
        largest for a layer that does not move.
    """
    squares = deltas.float().square()
    mean = squares.mean((0, 1, 3))[:, None] if deltas.dim() == 4 else squares.mean()
    rms = mean.clamp_min(SMALLEST_SQUARE).sqrt()
    return torch.where(rms < SMALLEST_SHARE * rms.max(), rms.max(), rms)


def directions(deltas: Tensor) -> Tensor:
    """Return unit vectors in which every layer weighs alike: their products are cosines.

    The cosine of two deltas is then the mean of their layers' cosines. A layer in which both are
    zero, as below the first adapted one, does not count.

    Args:
        deltas: [n, ...] of a floating type.

    Returns:
        [n, numbers] of that type; a delta of zero stays zero.
    """
    return F.normalize(F.normalize(by_layer(deltas), dim=-1).flatten(1), dim=-1)


def delta_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Cosine of each item's delta with its target, the mean over layers; [n]."""
    return (directions(predicted) * directions(target)).sum(1)


def delta_norm_ratio(predicted: Tensor, target: Tensor) -> Tensor:
    """Norm of each predicted delta over the target's, the mean over layers; [n]."""
    norms = by_layer(target).norm(dim=-1).clamp_min(SMALLEST_SQUARE**0.5)
    ratios: Tensor = by_layer(predicted).norm(dim=-1) / norms
    return torch.mean(ratios, dim=1)
