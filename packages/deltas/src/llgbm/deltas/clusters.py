"""Whether deltas of one task lie together: silhouette, and a map in two dimensions.

Both read distances of clip(1 - cosine, 0, 1), as Delta Activations does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llgbm.deltas.by_layer import directions
from llgbm.deltas.errors import SettingError

# Neighbours that a point of the map minds; t-SNE's usual number, less for few points.
PERPLEXITY = 30.0
FEWEST_POINTS = 3


def cosine_distances(deltas: Tensor) -> NDArray[np.float64]:
    """Return clip(1 - cosine, 0, 1) of every pair, zero on the diagonal.

    Args:
        deltas: [N, ...] float32; the layers of [N, probes, layers, hidden] weigh alike. One of
            length zero has no direction: it lies at 1 from all others.

    Returns:
        [N, N] float64.

    Raises:
        SettingError: NaN or Inf.
    """
    if not torch.isfinite(deltas).all():
        raise SettingError("deltas: expected finite values, got NaN or Inf")
    unit = directions(deltas.detach().double().cpu())
    distances = (1 - unit @ unit.mT).clamp(0, 1)
    distances.fill_diagonal_(0)
    return distances.numpy()


def delta_silhouette(deltas: Tensor, labels: Sequence[str]) -> float:
    """Return the mean silhouette of deltas by label.

    Args:
        deltas: [N, ...] float32.
        labels: N, the tasks.

    Returns:
        -1 to 1; higher where deltas of a label lie closer to each other than to other labels'.

    Raises:
        SettingError: another number of labels, one label alone, or no label twice; NaN or Inf.
    """
    if len(labels) != len(deltas):
        raise SettingError(f"labels: expected {len(deltas)}, one a delta, got {len(labels)}")
    different = len(set(labels))
    if not 2 <= different < len(labels):
        raise SettingError(
            f"labels: expected at least 2, and one of them twice, got {different} for "
            f"{len(labels)} deltas"
        )
    return silhouette(cosine_distances(deltas), labels)


def silhouette(distances: NDArray[np.float64], labels: Sequence[str]) -> float:
    """Return the mean silhouette of N points by label.

    Args:
        distances: [N, N], zero on the diagonal.
        labels: N; at least 2, and one of them twice.
    """
    from sklearn.metrics import silhouette_score

    return float(silhouette_score(distances, list(labels), metric="precomputed"))


def delta_map(deltas: Tensor, seed: int = 0) -> NDArray[np.float32]:
    """Return a t-SNE map of deltas; distances between far groups mean little there.

    Args:
        deltas: [N, ...] float32, N at least 3.
        seed: of the start.

    Returns:
        [N, 2] float32.

    Raises:
        SettingError: too few deltas; NaN or Inf.
    """
    from sklearn.manifold import TSNE

    if len(deltas) < FEWEST_POINTS:
        raise SettingError(
            f"deltas: expected at least {FEWEST_POINTS} for a map, got {len(deltas)}"
        )
    mapped = TSNE(
        n_components=2,
        metric="precomputed",
        init="random",
        perplexity=min(PERPLEXITY, (len(deltas) - 1) / 3),
        random_state=seed,
    ).fit_transform(cosine_distances(deltas))
    return np.asarray(mapped, dtype=np.float32)
