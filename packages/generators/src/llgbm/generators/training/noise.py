"""Noise on the embeddings of conditions: few teachers, so few texts to tell them apart by."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from llgbm.generators.conditions import ConditionBatch


def with_noise(
    conditions: ConditionBatch, positions: Sequence[int], share: float, seed: int
) -> ConditionBatch:
    """Add noise to embeddings; each item's does not depend on its company.

    Args:
        conditions: b items.
        positions: of the b items in the order of the whole training.
        share: standard deviation as a share of the embeddings' RMS.
        seed: of the training.
    """
    if not share:
        return conditions
    embeddings = conditions.embeddings
    noise = torch.zeros_like(embeddings)
    for row, mask, position in zip(noise, conditions.mask, positions, strict=True):
        texts = int(mask.sum())
        generator = torch.Generator().manual_seed(seed * 1_000_003 + position)
        row[:texts] = torch.randn(texts, row.shape[1], generator=generator)
    size = embeddings.norm(dim=-1, keepdim=True) / embeddings.shape[-1] ** 0.5
    return ConditionBatch(embeddings + share * size * noise, conditions.mask)
