"""The definition, as plainly as it can be written: the reference of every backend."""

from __future__ import annotations

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
