"""Starting a full-width decoder's heads in the span of the teachers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.decoders.full_width import FullWidthDecoder
from llgbm.generators.module_groups import stack_group

# Directions whose share of the largest is below this are rounding.
SMALLEST_SHARE = 1e-6


@torch.no_grad()
def start_in_span(decoder: FullWidthDecoder, teachers: LoRAWeights) -> None:
    """Let every module's heads begin as the principal directions of the teachers' factors.

    Codes beyond the number of teachers keep their random directions. What the decoder writes
    before training does not change: its gain is zero.

    Args:
        decoder: after `set_base` and `fit_scales` of these teachers.
        teachers: n training teachers of its spec.
    """
    codes, gain = decoder.config.codes, decoder.config.head_gain
    for index, group in enumerate(decoder.groups):
        members = decoder.members(index)
        base = decoder.base_A(index)
        lora_A = stack_group(teachers.lora_A, group).to(base) - base
        lora_B = stack_group(teachers.lora_B, group).to(base)
        for factor, heads, scale in (
            (lora_A, decoder.heads_A[index], decoder.scale_A[members]),
            (lora_B, decoder.heads_B[index], decoder.scale_B[members]),
        ):
            rows = factor.flatten(2) / scale.clamp_min(1e-12)[:, None, None]
            basis, kept = _principal(rows, codes)
            length = math.sqrt(rows.shape[2] / codes) / gain  # that of the random rows
            count = basis.shape[1]
            heads[:, :count] = torch.where(kept[..., None], basis * length, heads[:, :count])


def _principal(rows: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Orthonormal principal directions of rows [modules, n, width], the largest first.

    Returns:
        [modules, k, width] with k = min(n, most), and which of them are no rounding, [modules, k].
    """
    gram = (rows @ rows.mT).double()
    squares, vectors = torch.linalg.eigh(gram)
    k = min(rows.shape[1], most)
    squares, vectors = squares[:, -k:].flip(1), vectors[..., -k:].flip(2)
    kept = squares > SMALLEST_SHARE * squares[:, :1].clamp_min(1e-24)
    unit = vectors / squares.clamp_min(1e-24).sqrt()[:, None]
    return unit.mT.to(rows) @ rows, kept
