"""What a rebuilt adapter is compared with: simpler answers to the same question."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llgbm.deltas.merging import merge
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses.weights import gram_inner


def update_gram(first: LoRAWeights, second: LoRAWeights) -> torch.Tensor:
    """Inner products of all updates of n adapters with all of m, modules added up, [n, m]."""
    total = torch.zeros(first.n, second.n)
    for path in first.spec.paths:
        rows = [
            gram_inner(A, B, second.lora_A[path], second.lora_B[path])
            for A, B in zip(first.lora_A[path], first.lora_B[path], strict=True)
        ]
        total += torch.stack(rows).cpu()
    return total * (first.spec.scaling * second.spec.scaling)


def nearest_teachers(known: LoRAWeights, asked: LoRAWeights) -> LoRAWeights:
    """For each adapter asked about, the known one with the highest cosine of updates."""
    between = update_gram(asked, known)
    sizes = torch.stack(
        [update_gram(known.select([i]), known.select([i]))[0, 0] for i in range(known.n)]
    )
    return known.select((between / sizes.clamp_min(1e-24).sqrt()).argmax(1).tolist())


def task_means(
    known: LoRAWeights, tasks: Sequence[str], asked: Sequence[str]
) -> LoRAWeights | None:
    """For each task asked about, the mean update of its known teachers; None where one has none."""
    if not set(asked) <= set(tasks):
        return None
    means = {
        task: merge(known.select([i for i, name in enumerate(tasks) if name == task]))
        for task in dict.fromkeys(asked)
    }
    return LoRAWeights.concatenate([means[task] for task in asked])
