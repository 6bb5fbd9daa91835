"""A fixed random projection of deltas to a given width.

It keeps cosines within the error of Johnson and Lindenstrauss, so deltas of different widths can be
stored, plotted or predicted in one width. It does not make two base models comparable: their hidden
states have axes of their own, and after the projection a delta of one base still has a chance
cosine with the same behaviour in the other. `meaning` compares across bases.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from llgbm.deltas.errors import require_at_least, require_seed

# Entries of the matrix in memory at a time.
BLOCK = 1 << 24


def projection_matrix(width: int, dimension: int, seed: int = 0, first: int = 0) -> Tensor:
    """Return rows of a matrix of random signs (Achlioptas, 2003), before it is scaled.

    The signs are bits of numpy's PCG64, whose raw stream is the same on every machine and in
    every version. A row does not depend on how many there are.

    Args:
        width: of a delta.
        dimension: rows.
        seed: of the signs.
        first: index of the first row.

    Returns:
        [dimension, width] float32, +1 or -1.
    """
    words = -(-width // 64)
    source = np.random.PCG64(np.random.SeedSequence([seed, width])).advance(first * words)
    raw = source.random_raw(dimension * words).astype("<u8").view(np.uint8)
    bits = np.unpackbits(raw.reshape(dimension, words * 8), axis=1, count=width, bitorder="little")
    return torch.from_numpy(bits.astype(np.float32) * 2 - 1)


def project(deltas: Tensor, dimension: int, seed: int = 0) -> Tensor:
    """Project deltas to `dimension` numbers.

    Layers keep their sizes; `by_layer.directions` first where they should weigh alike. The inner
    product of two unit vectors is kept with a standard deviation of at most
    sqrt(2 / dimension) over seeds.

    Args:
        deltas: [N, ...]; each is flattened first.
        dimension: of the result.
        seed: of the projection; deltas compare under one seed alone.

    Returns:
        [N, dimension] float32, on the device of `deltas`; differentiable.

    Raises:
        SettingError: `dimension` below 1, or a seed out of bounds.
    """
    require_at_least(1, dimension=dimension)
    require_seed(seed)
    flat = deltas.flatten(1).float()
    width = flat.shape[1]
    rows = max(1, BLOCK // width)
    parts = []
    for first in range(0, dimension, rows):
        signs = projection_matrix(width, min(rows, dimension - first), seed, first)
        parts.append(flat @ signs.to(flat.device).mT)
    return torch.cat(parts, dim=1) / math.sqrt(dimension)
