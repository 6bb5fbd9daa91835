"""Do adapters of one task, or of one family, stand together: silhouettes of deltas and weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llgbm.deltas.by_layer import directions
from llgbm.deltas.clusters import silhouette
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses.weights import gram_inner


def gram_silhouette(gram: Tensor, labels: Sequence[str]) -> float | None:
    """Mean silhouette on clip(1 - cos, 0, 1), as in Delta Activations.

    Args:
        gram: [N, N] inner products.
        labels: N of them.

    Returns:
        The score, or None where it is not defined: one label, or a label for each.
    """
    if not 1 < len(set(labels)) < len(labels):
        return None
    norms = gram.diagonal().clamp_min(1e-24).sqrt()
    distance = (1 - gram / (norms[:, None] * norms)).clip(0, 1).fill_diagonal_(0)
    return silhouette(distance.double().numpy(), labels)


def clusters(
    deltas: Tensor, weights: LoRAWeights, tasks: Sequence[str], families: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    """Silhouettes of N adapters by task and by family, in three spaces.

    Args:
        deltas: [N, ...] float32.
        weights: the same N adapters.
        tasks: of each.
        families: of each.

    Returns:
        `deltas`, `weights` (A and B flattened, as they are) and `updates` (ΔW, by the Gram
        identity) -> `task` and `family` -> score.
    """
    unit = directions(deltas.double().cpu())
    factors = torch.zeros(weights.n, weights.n, dtype=torch.float64)
    updates = torch.zeros_like(factors)
    for path in weights.spec.paths:
        lora_A, lora_B = weights.lora_A[path].float(), weights.lora_B[path].float()
        for factor in (lora_A.flatten(1), lora_B.flatten(1)):
            factors += (factor @ factor.mT).double().cpu()
        pairs = zip(lora_A, lora_B, strict=True)
        rows = [gram_inner(one_A, one_B, lora_A, lora_B) for one_A, one_B in pairs]
        updates += torch.stack(rows).double().cpu()
    grams = {"deltas": unit @ unit.mT, "weights": factors, "updates": updates}
    return {
        space: {
            "task": gram_silhouette(gram, tasks),
            "family": gram_silhouette(gram, families),
        }
        for space, gram in grams.items()
    }
