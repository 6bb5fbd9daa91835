"""Deltas layer by layer: hidden states grow with depth, and no layer should drown the others."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# A length below this counts as this: adapters that change nothing have no size.
SMALLEST_LENGTH = 1e-12
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
    rms = mean.sqrt().clamp_min(SMALLEST_LENGTH)
    return torch.where(rms < SMALLEST_SHARE * rms.max(), rms.max(), rms)


def moving(deltas: Tensor) -> Tensor:
    """Return which layers an adapter moves: rounding, as below the first adapted one, is no move.

    Args:
        deltas: [n, ...] of a floating type.

    Returns:
        [n, layers] bool; none of them for a delta of zero.
    """
    norms = by_layer(deltas).norm(dim=-1)
    return (norms > SMALLEST_SHARE * norms.amax(1, keepdim=True)) & (norms > 0)


def directions(deltas: Tensor) -> Tensor:
    """Return unit vectors in which every layer that moves weighs alike.

    Their products are cosines: of deltas that move in the same layers, the mean of these layers'.

    Args:
        deltas: [n, ...] of a floating type.

    Returns:
        [n, numbers] of that type; a delta of zero stays zero.
    """
    rows = F.normalize(by_layer(deltas), dim=-1) * moving(deltas)[..., None]
    return F.normalize(rows.flatten(1), dim=-1)


def delta_cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Cosine of each item's delta with its target, the mean over layers that the target moves.

    Args:
        predicted: [n, ...] of a floating type.
        target: of the same shape.

    Returns:
        [n]; 0 where the target or the prediction is zero.
    """
    cosines = F.cosine_similarity(by_layer(predicted), by_layer(target), dim=-1)
    return _over_moving(cosines, target)


def delta_norm_ratio(predicted: Tensor, target: Tensor) -> Tensor:
    """Norm of each predicted delta over the target's, the mean over layers that it moves; [n]."""
    norms = by_layer(target).norm(dim=-1).clamp_min(SMALLEST_LENGTH)
    return _over_moving(by_layer(predicted).norm(dim=-1) / norms, target)


def _over_moving(values: Tensor, target: Tensor) -> Tensor:
    """Mean of [n, layers] over the layers that the target moves, [n]."""
    counted = moving(target)
    return (values * counted).sum(1) / counted.sum(1).clamp_min(1)
