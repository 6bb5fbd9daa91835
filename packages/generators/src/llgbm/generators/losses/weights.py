"""Losses on weights: how far generated factors, or the updates they make, are from a teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.module_groups import ModuleGroup, module_groups, stack_group

# Squared norms below this count as this: a module that no teacher trained has nothing to divide by.
SMALLEST_SQUARE = 1e-12


class WeightDistance(Protocol):
    """A distance of weights, such as WeightLoss."""

    @property
    def name(self) -> str:
        """What it compares."""
        ...

    def __call__(
        self, generated: LoRAWeights, teacher: LoRAWeights, whole: LoRAWeights | None = None
    ) -> Tensor:
        """Return a scalar.

        Args:
            generated: n adapters.
            teacher: n adapters of the same spec, without gradient.
            whole: teachers of the whole step, where the n items are one process's share of it;
                sizes are read off them.
        """
        ...


def check_pair(generated: LoRAWeights, teacher: LoRAWeights) -> None:
    """Raise ValueError for adapters of other specs or another n."""
    if generated.spec != teacher.spec or generated.n != teacher.n:
        raise ValueError(
            f"weight loss: expected the teacher's spec (r={teacher.spec.r}) and n={teacher.n}, got "
            f"r={generated.spec.r} and n={generated.n}"
        )


@dataclass(frozen=True)
class WeightLoss:
    """Squared error of A and of B, each over the teacher's squared norm, averaged over modules.

    Errors and norms are averaged over the batch before they are divided, so that a teacher whose
    update of one module is close to nothing does not dominate. Dividing by the norm of A itself
    (and not of its deviation from a shared initialisation) weighs both factors by what they do
    to B A. Depends on the gauge: meant for teachers that share their A initialisation.
    Source: seed 002, L_weight.
    """

    @property
    def name(self) -> str:
        """What it compares."""
        return "factors"

    def __call__(
        self, generated: LoRAWeights, teacher: LoRAWeights, whole: LoRAWeights | None = None
    ) -> Tensor:
        """Return the mean relative squared error.

        Args:
            generated, teacher, whole: see WeightDistance.

        Returns:
            Scalar; 1 + (share of A) for adapters of zeros, 0 for a perfect copy.

        Raises:
            ValueError: specs or n that differ.
        """
        check_pair(generated, teacher)
        # Module by module: one module's factors stay in a core's cache, where stacking them all
        # would write and read the whole batch of adapters twice more.
        sizes = teacher if whole is None else whole
        errors, norms = [], []
        for path in teacher.spec.paths:
            for ours, theirs, sized in (
                (generated.lora_A[path], teacher.lora_A[path], sizes.lora_A[path]),
                (generated.lora_B[path], teacher.lora_B[path], sizes.lora_B[path]),
            ):
                target = theirs.detach().to(ours.dtype)
                errors.append(F.mse_loss(ours, target, reduction="sum"))
                norms.append(torch.linalg.vector_norm(sized.detach().to(ours.dtype)))
        squares = torch.stack(norms).square().clamp_min(SMALLEST_SQUARE)
        return (torch.stack(errors) / squares).mean() * (sizes.n / teacher.n)


def gram_inner(first_A: Tensor, first_B: Tensor, second_A: Tensor, second_B: Tensor) -> Tensor:
    """Inner product of two updates without forming them: <B1 A1, B2 A2> = sum (B1ᵀB2) * (A1A2ᵀ).

    Args:
        first_A, second_A: [..., r, in]; the ranks may differ.
        first_B, second_B: [..., out, r].

    Returns:
        [...], Frobenius inner products, without scaling.
    """
    return ((first_B.mT @ second_B) * (first_A @ second_A.mT)).sum((-1, -2))


def delta_w_inner(first: LoRAWeights, second: LoRAWeights) -> Tensor:
    """Inner products of the scaled updates of two batches of n adapters, pair by pair.

    Args:
        first: n adapters.
        second: n adapters of the same modules; rank and alpha may differ.

    Returns:
        [n, modules] in the factors' dtype: <s1 B1 A1, s2 B2 A2>, modules in the spec's order.
    """
    groups = module_groups(first.spec)
    inner = [
        gram_inner(
            stack_group(first.lora_A, group),
            stack_group(first.lora_B, group),
            stack_group(second.lora_A, group),
            stack_group(second.lora_B, group),
        )
        for group in groups
    ]
    return _in_spec_order(inner, groups) * (first.spec.scaling * second.spec.scaling)


def delta_w_squared_distance(first: LoRAWeights, second: LoRAWeights) -> Tensor:
    """Squared Frobenius distances of the scaled updates of two batches of n adapters.

    B1 A1 - B2 A2 = (B1 - B2) A1 + B2 (A1 - A2), and the squared norm of that sum by the Gram
    identity. Expanding <D1, D1> - 2 <D1, D2> + <D2, D2> instead would lose every digit where
    the factors are close, which is where training ends.

    Args:
        first: n adapters.
        second: n adapters of the same spec.

    Returns:
        [n, modules], at least 0, modules in the spec's order.
    """
    groups = module_groups(first.spec)
    distances = []
    for group in groups:
        first_A, second_A = stack_group(first.lora_A, group), stack_group(second.lora_A, group)
        first_B, second_B = stack_group(first.lora_B, group), stack_group(second.lora_B, group)
        error_A, error_B = first_A - second_A, first_B - second_B
        distances.append(
            gram_inner(first_A, error_B, first_A, error_B)
            + 2 * gram_inner(first_A, error_B, error_A, second_B)
            + gram_inner(error_A, second_B, error_A, second_B)
        )
    # Rounding may leave a distance of zero just below zero.
    return _in_spec_order(distances, groups).clamp_min(0) * first.spec.scaling**2


def _in_spec_order(values: Sequence[Tensor], groups: Sequence[ModuleGroup]) -> Tensor:
    """Join values [modules of a group, n] of all groups into [n, modules]."""
    joined = torch.cat(list(values))
    order = torch.tensor([index for group in groups for index in group.indices])
    return joined[order.argsort().to(joined.device)].mT


@dataclass(frozen=True)
class DeltaWeightLoss:
    """Squared error of the update s B A over the teacher's, averaged over modules; gauge-free.

    Updates are compared by the Gram identity (`gram_inner`), never
    formed. As in WeightLoss, the batch is averaged first.
    """

    @property
    def name(self) -> str:
        """What it compares."""
        return "updates"

    def __call__(
        self, generated: LoRAWeights, teacher: LoRAWeights, whole: LoRAWeights | None = None
    ) -> Tensor:
        """Return the mean relative squared error of the updates.

        Args:
            generated, teacher, whole: see WeightDistance.

        Returns:
            Scalar; 1 for adapters that change nothing.

        Raises:
            ValueError: specs or n that differ.
        """
        check_pair(generated, teacher)
        teacher = teacher.detach()
        sizes = teacher if whole is None else whole.detach()
        error = delta_w_squared_distance(generated, teacher).mean(0)
        target = delta_w_inner(sizes, sizes).mean(0)
        return (error / target.clamp_min(SMALLEST_SQUARE)).mean()
