"""Halfway: what is written half way between two latents, against half of what both ends say."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses.step import Step
from llgbm.generators.losses.terms import Runs
from llgbm.generators.losses.weights import SMALLEST_SQUARE, delta_w_inner


def neighbours(n: int) -> list[int]:
    """The place that each of n items is paired with: the next, and the first for the last."""
    return [(place + 1) % n for place in range(n)]


def halfway_error(middle: LoRAWeights, ends: LoRAWeights) -> Tensor:
    """Squared distance of updates from the means of neighbouring ends, over the ends' squares.

    By the Gram identity; ends are constants.

    Args:
        middle: n adapters, the i-th half way between ends i and `neighbours(n)[i]`.
        ends: n adapters of the same spec.

    Returns:
        Scalar: mean over modules; 0 where the way is straight.

    Raises:
        ValueError: another n.
    """
    if middle.n != ends.n:
        raise ValueError(f"halfway: expected n={ends.n} adapters, got {middle.n}")
    first = ends.detach()
    second = first.select(neighbours(first.n))
    squares = delta_w_inner(first, first)
    mean_square = (squares + delta_w_inner(second, second)) / 4
    mean_square = mean_square + delta_w_inner(first, second) / 2
    across = delta_w_inner(middle, first) + delta_w_inner(middle, second)
    error = delta_w_inner(middle, middle) - across + mean_square
    # Rounding may leave a distance of zero just below zero.
    return (error.mean(0).clamp_min(0) / squares.mean(0).clamp_min(SMALLEST_SQUARE)).mean()


@dataclass(frozen=True)
class Halfway:
    """How far decoded means of two latents are from the means of the two updates.

    Where it is 0, the way through the latent is the straight way in updates: adapters between two
    tasks are mixtures of both. Ends are constants: the middle is drawn to them, never they to it.
    The same pull towards a linear map between points as mixup (Zhang et al. 2018), on updates.
    """

    name: str = field(default="halfway", init=False)
    runs: Runs = field(default="nothing", init=False)

    def __call__(self, step: Step) -> Tensor:
        """Return the relative squared distance, a scalar.

        Raises:
            ValueError: the generator has written nothing half way.
        """
        middle: LoRAWeights | None = getattr(step.output, "halfway", None)
        if middle is None:
            raise ValueError("halfway: expected adapters half way, got an output without them")
        return halfway_error(middle, step.output.weights)
