"""Pareto fronts: who is not beaten in everything, and how much is dominated."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from llgbm.generators.extras import fronts

# Below the worst of the training front by this share of its range.
MARGIN = 0.1


def undominated(points: Tensor) -> Tensor:
    """[n] bool of points [n, a], more is better; of equal points the first stays."""
    found = fronts().is_nondominated(points.double().numpy(), maximise=True)
    return torch.from_numpy(np.asarray(found, dtype=bool))


def hypervolume(points: Tensor, reference: Tensor) -> float:
    """Volume that points [n, a] dominate above `reference` [a]; 0 where all are below it."""
    above = points[(points > reference).all(-1)]
    if not len(above):
        return 0.0
    return float(
        fronts().hypervolume(above.double().numpy(), ref=reference.double().numpy(), maximise=True)
    )


def reference_point(points: Tensor) -> Tensor:
    """Where volumes are counted from: just below the worst of a front in every metric, [a].

    Args:
        points: [n, a], of the training checkpoints.
    """
    front = points[undominated(points)]
    low, high = front.amin(0), front.amax(0)
    # A front of one point has no range: all points' counts.
    spread = torch.where(high > low, high - low, points.amax(0) - points.amin(0))
    return low - MARGIN * spread


def spread_over_front(points: Tensor, reference: Tensor, count: int) -> list[int]:
    """At most `count` places that together dominate much, chosen one after another.

    Args:
        points: [n, a].
        reference: [a].
        count: most.
    """
    left = undominated(points).nonzero()[:, 0].tolist()
    chosen: list[int] = []
    reached = 0.0
    while left and len(chosen) < count:
        volumes = [hypervolume(points[[*chosen, place]], reference) for place in left]
        best = int(np.argmax(volumes))
        # What adds nothing is named only where nothing adds anything.
        if chosen and volumes[best] <= reached:
            break
        reached = volumes[best]
        chosen.append(left.pop(best))
    return chosen
