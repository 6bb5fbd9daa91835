"""UpdateCosineLoss: the direction of updates, without their size."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses.weights import SMALLEST_SQUARE, check_pair, delta_w_inner


def update_cosine(first: LoRAWeights, second: LoRAWeights) -> Tensor:
    """Cosine of whole updates, all modules together, pair by pair, by the Gram identity.

    Args:
        first: n adapters.
        second: n adapters of the same modules; rank and alpha may differ.

    Returns:
        [n]; 0 where one of them changes nothing.
    """
    inner = delta_w_inner(first, second).sum(1)
    squares = delta_w_inner(first, first).sum(1) * delta_w_inner(second, second).sum(1)
    return inner / squares.clamp_min(SMALLEST_SQUARE**2).sqrt()


@dataclass(frozen=True)
class UpdateCosineLoss:
    """One minus the mean over modules of the cosine of updates; gauge-free (seed 000, risks).

    Args:
        floor: an update shorter than this share of the teacher's counts as that long: a decoder
            that starts at zero would have a gradient without bound.
    """

    floor: float = 0.1

    @property
    def name(self) -> str:
        """What it compares."""
        return "update_cosine"

    def __call__(
        self, generated: LoRAWeights, teacher: LoRAWeights, whole: LoRAWeights | None = None
    ) -> Tensor:
        """Return 1 - cosine, between 0 and 2; see WeightDistance.

        Raises:
            ValueError: specs or n that differ.
        """
        check_pair(generated, teacher)
        teacher = teacher.detach()
        target = delta_w_inner(teacher, teacher).clamp_min(SMALLEST_SQUARE)
        ours = delta_w_inner(generated, generated)
        square = ours.maximum(self.floor**2 * target)
        return 1 - (delta_w_inner(generated, teacher) / (square * target).sqrt()).mean()
