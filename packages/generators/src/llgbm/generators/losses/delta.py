"""Losses on deltas: how far one behaviour is from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.deltas.by_layer import by_layer, layer_rms, moving

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

    Deltas of several layers: each layer over its own mean square, so that the last, whose states
    are the largest, does not drown the others.

    Args:
        mean_square: what to divide all layers by, such as the mean square over all training
            teachers; the mean square of each layer of the batch's reference where None.
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
        if self.mean_square is not None:
            error = F.mse_loss(predicted, target.detach())
            return error / max(self.mean_square, SMALLEST_SQUARE)
        unit = (target if reference is None else reference) if whole is None else whole
        size = layer_rms(unit.detach()).clamp_min(SMALLEST_SQUARE**0.5)
        return F.mse_loss(predicted / size, target.detach() / size)


@dataclass(frozen=True)
class DeltaCosineLoss:
    """One minus the cosine of each item's delta, averaged: direction without size.

    Deltas of several layers: the mean of the cosines in layers that the reference moves.

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
        ours, theirs = by_layer(predicted), by_layer(target.detach())
        unit = theirs if reference is None else by_layer(reference.detach())
        shortest = (self.floor * unit.norm(dim=2)).clamp_min(SMALLEST_SQUARE)
        lengths = [torch.maximum(vector.norm(dim=2), shortest) for vector in (ours, theirs)]
        cosines = (ours * theirs).sum(2) / (lengths[0] * lengths[1])
        counted = moving(target.detach() if reference is None else reference.detach())
        return 1 - ((cosines * counted).sum(1) / counted.sum(1).clamp_min(1)).mean()


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
