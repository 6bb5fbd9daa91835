"""The definition, as plainly as it can be written: the reference of every backend."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor


def naive_lora_linear(
    x: Tensor,
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    scaling: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    """y = x Wᵀ + s (x Aᵀ) Bᵀ + bias, in the dtype of the arguments.

    Args:
        x: [n, m, in].
        weight: [out, in].
        lora_A: [n, r, in].
        lora_B: [n, out, r].
        scaling: [n].
        bias: [out].

    Returns:
        [n, m, out].
    """
    base = torch.einsum("nmi,oi->nmo", x, weight)
    update = torch.einsum("nmi,nri,nor,n->nmo", x, lora_A, lora_B, scaling)
    y = base + update
    return y if bias is None else y + bias


def naive_lora_linear_ragged(
    x: Tensor,
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    scaling: Tensor,
    offsets: Sequence[int],
    bias: Tensor | None = None,
    ranks: Sequence[int] | None = None,
) -> Tensor:
    """The same where rows offsets[i] to offsets[i + 1] of x belong to adapter i.

    Args:
        x: [M, in].
        weight: [out, in].
        lora_A: [n, r, in].
        lora_B: [n, out, r].
        scaling: [n].
        offsets: n + 1 row numbers.
        bias: [out].
        ranks: of each adapter; later ranks are left out.

    Returns:
        [M, out].
    """
    parts = []
    for i, (start, end) in enumerate(pairwise(offsets)):
        rank = lora_A.shape[1] if ranks is None else ranks[i]
        rows = x[start:end]
        update = rows @ lora_A[i, :rank].mT @ lora_B[i, :, :rank].mT
        y = rows @ weight.mT + scaling[i] * update
        parts.append(y if bias is None else y + bias)
    return torch.cat(parts)
