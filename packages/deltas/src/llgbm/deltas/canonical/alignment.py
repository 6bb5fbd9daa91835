"""Turning singular vectors towards a reference: signs, and blocks of near-equal values."""

from __future__ import annotations

import torch
from torch import Tensor

# Neighbours in a block differ by less than this share of the larger.
NEAR = 0.05


def singular_blocks(s: Tensor, near: float = NEAR) -> list[slice]:
    """Return the runs of near-equal singular values of one update.

    Within a run the vectors are one subspace: which of its bases a decomposition returns is chance.

    Args:
        s: [r], descending.
        near: largest relative step within a run.
    """
    values = s.tolist()
    starts = [0]
    for place in range(1, len(values)):
        before = values[place - 1]
        if before - values[place] > near * before or values[place] == 0 < before:
            starts.append(place)
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(values)], strict=True)]


def align_factors(
    lora_A: Tensor,
    lora_B: Tensor,
    reference_A: Tensor,
    reference_B: Tensor,
    blocks: list[slice],
) -> tuple[Tensor, Tensor]:
    """Turn balanced factors of one update towards those of a reference; the update is unchanged.

    Each block is turned as a whole by the orthogonal matrix that brings it nearest to the
    reference's rows at the same places (Procrustes); a block of one is a sign.

    Args:
        lora_A: [r, in], sqrt(s) vh.
        lora_B: [out, r], u sqrt(s).
        reference_A: [r, in].
        reference_B: [out, r].
        blocks: of the update, from `singular_blocks`.

    Returns:
        A and B.
    """
    lora_A, lora_B = lora_A.clone(), lora_B.clone()
    for block in blocks:
        A, B = lora_A[block], lora_B[:, block]
        agreement = B.mT @ reference_B[:, block] + A @ reference_A[block].mT
        u, _, vh = torch.linalg.svd(agreement)
        turn = u @ vh
        lora_A[block], lora_B[:, block] = turn.mT @ A, B @ turn
    return lora_A, lora_B
