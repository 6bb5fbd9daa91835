"""lora_linear_ragged: adapters with unequal numbers of rows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.lora_kernels.backends import Backend
from llgbm.lora_kernels.linear import lora_linear
from llgbm.lora_kernels.shapes import check_arguments


def lora_linear_ragged(
    x: Tensor,
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    scaling: Tensor,
    offsets: Sequence[int] | Tensor,
    bias: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """`lora_linear` where rows offsets[i] to offsets[i + 1] belong to adapter i.

    Args:
        x: [M, in].
        weight: [out, in], without gradient.
        lora_A: [n, r, in].
        lora_B: [n, out, r].
        scaling: [n].
        offsets: n + 1 whole numbers from 0 to M that never fall; equal neighbours are an empty
            segment.
        bias: [out].
        backend: as in `lora_linear`.

    Returns:
        [M, out], x's dtype.

    Raises:
        ValueError: as `lora_linear`, or offsets that do not cover x in order.
    """
    if x.dim() != 2:
        raise ValueError(f"x: expected [M, in], got shape {tuple(x.shape)}")
    bounds = [int(offset) for offset in offsets]
    n = len(bounds) - 1
    check_arguments(x, weight, lora_A, lora_B, scaling, bias, n)
    if bounds[0] != 0 or bounds[-1] != len(x) or any(b < a for a, b in pairwise(bounds)):
        raise ValueError(f"offsets: expected 0 to {len(x)}, never falling, got {bounds}")
    lengths = [end - start for start, end in pairwise(bounds)]
    if len(set(lengths)) == 1 and lengths[0]:
        batched = x.view(n, lengths[0], x.shape[1])
        y = lora_linear(batched, weight, lora_A, lora_B, scaling, bias, backend=backend)
        return y.flatten(0, 1)
    parts = [
        lora_linear(
            x[start:end][None],
            weight,
            lora_A[i : i + 1],
            lora_B[i : i + 1],
            scaling[i : i + 1],
            bias,
            backend=backend,
        )[0]
        for i, (start, end) in enumerate(pairwise(bounds))
        if end > start
    ]
    if not parts:
        return F.linear(x, weight, bias)
    return torch.cat(parts)
