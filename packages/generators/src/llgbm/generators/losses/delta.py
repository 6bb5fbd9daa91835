"""Losses on deltas: how far one behaviour is from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

# A mean square below this counts as this: teachers that change nothing have nothing to divide by.
SMALLEST_SQUARE = 1e-12


class DeltaLoss(Protocol):
    """A distance of deltas, such as DeltaMSELoss."""

    def __call__(
        self,
        predicted: Tensor,
        target: Tensor,
        reference: Tensor | None = None,
        whole: Tensor | None = None,
    ) -> Tensor:
        """Return a scalar.

        Args:
            predicted: [n, ...].
            target: [n, ...], taken without gradient.
            reference: [n, ...], deltas whose size is the unit; the target where None. A target
                that starts at zero, such as a computed delta, needs the teachers here.
            whole: [N, ...], teacher deltas of the whole step, where the n items are one process's
                share of it.
        """
        ...


def _check_shapes(predicted: Tensor, target: Tensor) -> None:
    if predicted.shape != target.shape:
        raise ValueError(
            f"delta loss: expected the target's shape {tuple(target.shape)}, "
            f"got {tuple(predicted.shape)}"
        )


@dataclass(frozen=True)
class DeltaMSELoss:
    """Mean squared error over a mean square of teacher deltas (seed 002, L_delta).

    Args:
        mean_square: what to divide by, such as the mean square over all training teachers;
            that of the batch's reference where None.
    """

    mean_square: float | None = None

    @property
    def name(self) -> str:
        """What the term is, with its parameters."""
        return "delta_mse" if self.mean_square is None else f"delta_mse / {self.mean_square:g}"

    def __call__(
        self,
        predicted: Tensor,
        target: Tensor,
        reference: Tensor | None = None,
        whole: Tensor | None = None,
    ) -> Tensor:
        """Return the relative squared error; 1 for a prediction of zero.

        Args:
            predicted, target, reference, whole: see DeltaLoss.

        Returns:
            Scalar.

        Raises:
            ValueError: shapes that differ.
        """
        _check_shapes(predicted, target)
        error = F.mse_loss(predicted, target.detach())
        if self.mean_square is not None:
            return error / max(self.mean_square, SMALLEST_SQUARE)
        unit = (target if reference is None else reference) if whole is None else whole
        unit = unit.detach()
        return error / unit.square().mean().clamp_min(SMALLEST_SQUARE)


@dataclass(frozen=True)
class DeltaCosineLoss:
    """One minus the cosine of each item's flattened delta, averaged: direction without size.

    Args:
        floor: a prediction shorter than this share of the reference counts as that long. The
            cosine of a generator that still starts at the base model would have a gradient
            without bound.
    """

    floor: float = 0.01

    @property
    def name(self) -> str:
        """What the term is, with its parameters."""
        return f"delta_cosine, floor {self.floor:g}"

    def __call__(
        self,
        predicted: Tensor,
        target: Tensor,
        reference: Tensor | None = None,
        whole: Tensor | None = None,
    ) -> Tensor:
        """Return 1 - cosine, between 0 and 2; 1 for a prediction of zero.

        Args:
            predicted, target, reference, whole: see DeltaLoss; `whole` is not read.

        Returns:
            Scalar.

        Raises:
            ValueError: shapes that differ.
        """
        _check_shapes(predicted, target)
        ours, theirs = predicted.flatten(1), target.detach().flatten(1)
        unit = theirs if reference is None else reference.detach().flatten(1)
        shortest = (self.floor * unit.norm(dim=1)).clamp_min(SMALLEST_SQUARE)
        lengths = [torch.maximum(vector.norm(dim=1), shortest) for vector in (ours, theirs)]
        return 1 - ((ours * theirs).sum(1) / (lengths[0] * lengths[1])).mean()


@dataclass(frozen=True)
class DeltaSumLoss:
    """Relative squared error plus `cosine_weight` times the cosine loss.

    Args:
        cosine_weight: weight of the direction.
        mean_square: see DeltaMSELoss.
    """

    cosine_weight: float = 1.0
    mean_square: float | None = None

    @property
    def name(self) -> str:
        """What the term is, with its parameters."""
        return f"{DeltaMSELoss(self.mean_square).name} + {self.cosine_weight:g} delta_cosine"

    def __call__(
        self,
        predicted: Tensor,
        target: Tensor,
        reference: Tensor | None = None,
        whole: Tensor | None = None,
    ) -> Tensor:
        """Return the weighted sum; see DeltaMSELoss and DeltaCosineLoss."""
        squared = DeltaMSELoss(self.mean_square)(predicted, target, reference, whole)
        return squared + self.cosine_weight * DeltaCosineLoss()(predicted, target, reference)
