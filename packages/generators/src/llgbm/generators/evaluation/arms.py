"""Arms: the adapters that a generated one is compared with (anchors: baselines)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from llgbm.deltas.merging import merge
from llgbm.deltas.retrieval import retrieve
from llgbm.deltas.weights import LoRAWeights

# As in results.json; `generated_description` is written from one sentence instead of prompts.
ARMS = (
    "base",
    "random",
    "mean_adapter",
    "nearest_text",
    "nearest_delta",
    "generated",
    "generated_description",
    "generated_shuffled",
    "teacher",
)


def random_matched(reference: LoRAWeights, generator: torch.Generator) -> LoRAWeights:
    """Return a random adapter whose updates have the reference's mean norm, module by module.

    Args:
        reference: n adapters.
        generator: on the CPU.
    """
    spec = reference.spec
    lora_A, lora_B = {}, {}
    for module in spec.modules:
        lora_A[module.path] = torch.randn(1, spec.r, module.in_features, generator=generator)
        lora_B[module.path] = torch.randn(1, module.out_features, spec.r, generator=generator)
    drawn = LoRAWeights(spec, lora_A, lora_B)
    ratio = reference.delta_norms().mean(0).cpu() / drawn.delta_norms()[0].clamp_min(1e-12)
    scaled = {path: lora_B[path] * ratio[index] for index, path in enumerate(spec.paths)}
    return LoRAWeights(spec, lora_A, scaled)


def mean_adapter(teachers: LoRAWeights) -> LoRAWeights:
    """Return the rank-r adapter nearest to the mean of the teachers' updates."""
    return merge(teachers)


def nearest(query: Tensor, candidates: Tensor) -> int:
    """Index of the candidate with the largest cosine to `query`, by embedding or by delta.

    Args:
        query: [...].
        candidates: [N, ...].
    """
    return int(retrieve(query, candidates, 1)[0])


def mismatched(families: Mapping[str, str], tasks: Sequence[str], seed: int) -> dict[str, str]:
    """Give each task the condition of a task of another family, evenly where possible.

    Args:
        families: task -> family.
        tasks: tasks to give a condition to; also the pool that it is taken from.
        seed: of the draw.

    Raises:
        ValueError: all tasks are of one family.
    """
    if len({families[task] for task in tasks}) < 2:
        raise ValueError("mismatched: expected tasks of at least two families")
    rng = random.Random(f"{seed}:mismatched")
    pool = list(tasks)
    for _ in range(1000):
        rng.shuffle(pool)
        if all(families[a] != families[b] for a, b in zip(tasks, pool, strict=True)):
            return dict(zip(tasks, pool, strict=True))
    # One family holds most tasks: no permutation keeps it apart from itself.
    return {
        task: rng.choice([other for other in tasks if families[other] != families[task]])
        for task in tasks
    }
