"""Nearest-teacher ratio: does a generator copy a teacher, or write something of its own?"""

from __future__ import annotations

import torch
from torch import Tensor

from llgbm.deltas.by_layer import layer_rms
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses.weights import delta_w_squared_distance

# Adapters compared at once: bounds the memory of their differences.
AT_ONCE = 8


def delta_w_distances(one: LoRAWeights, others: LoRAWeights) -> Tensor:
    """Frobenius distances of one adapter's whole update from those of N, by the Gram identity.

    Args:
        one: n = 1.
        others: N adapters of the same spec.

    Returns:
        [N] float32.
    """
    distances = []
    for start in range(0, others.n, AT_ONCE):
        part = others.select(slice(start, start + AT_ONCE))
        same = one.map(lambda factor, n=part.n: factor.expand(n, -1, -1))  # type: ignore[misc]
        distances.append(delta_w_squared_distance(same, part).sum(1).sqrt())
    return torch.cat(distances)


def delta_distances(one: Tensor, others: Tensor) -> Tensor:
    """Distances of one delta [...] from N [N, ...], in units of each layer's RMS; [N] float32."""
    return ((others - one) / layer_rms(others)).flatten(1).norm(dim=1)


class NearestTeacher:
    """Ratios for adapters beside N training teachers; distances between teachers are kept.

    Args:
        teachers: N adapters.
        deltas: [N, ...] float32, theirs.
    """

    def __init__(self, teachers: LoRAWeights, deltas: Tensor) -> None:
        self.teachers, self.deltas = teachers, deltas.to(teachers.device)
        self._between: dict[tuple[str, int], Tensor] = {}

    def ratios(
        self, weights: LoRAWeights, delta: Tensor, leave_out: int | None = None
    ) -> dict[str, float | None]:
        """d(adapter, its nearest teacher) / d(that teacher, its nearest other teacher).

        Near 0 the adapter is a copy of a teacher; near 1 it is as far from the nearest one as
        teachers are from each other.

        Args:
            weights: one adapter (n = 1) of the teachers' spec.
            delta: [...] float32, its delta.
            leave_out: place of the adapter itself, where it is one of the teachers.

        Returns:
            `delta_w` and `delta` -> ratio; None where no two teachers are left, or where the
            two are the same.
        """
        return {
            "delta_w": self._ratio(
                "delta_w",
                delta_w_distances(weights.to(self.teachers.device), self.teachers),
                leave_out,
            ),
            "delta": self._ratio(
                "delta", delta_distances(delta.to(self.deltas.device), self.deltas), leave_out
            ),
        }

    def _ratio(self, space: str, distances: Tensor, leave_out: int | None) -> float | None:
        left = [place for place in range(len(distances)) if place != leave_out]
        if len(left) < 2:
            return None
        # In one go: every number read off a GPU by itself would wait for it.
        near = distances.tolist()
        place = min(left, key=lambda index: near[index])
        others = self._row(space, place).tolist()
        apart = min(others[index] for index in left if index != place)
        return near[place] / apart if apart > 0 else None

    def _row(self, space: str, place: int) -> Tensor:
        """Distances of teacher `place` from all."""
        if (space, place) not in self._between:
            if space == "delta_w":
                row = delta_w_distances(self.teachers.select([place]), self.teachers)
            else:
                row = delta_distances(self.deltas[place], self.deltas)
            self._between[space, place] = row
        return self._between[space, place]
