"""lora_linear_grouped: layers that read the same rows, such as q, k and v."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llgbm.lora_kernels.backends import Backend, choose_backend
from llgbm.lora_kernels.custom_ops import lora_forward
from llgbm.lora_kernels.eager import EagerLoRA
from llgbm.lora_kernels.segments import Segments
from llgbm.lora_kernels.shapes import check_arguments, check_rows, refuse_tangents

MOST_GROUPS = 3


def lora_linear_grouped(
    x: Tensor,
    weights: Sequence[Tensor],
    lora_A: Sequence[Tensor],
    lora_B: Sequence[Tensor],
    scaling: Tensor,
    biases: Sequence[Tensor | None] | None = None,
    *,
    segments: Segments | None = None,
    backend: Backend = "auto",
) -> tuple[Tensor, ...]:
    """`lora_linear` of one to three layers on one x: x is read once, and gets one gradient.

    Args:
        x: [n, m, in], or [M, in] with `segments`.
        weights: of each layer [out_g, in].
        lora_A: of each layer [n, r, in].
        lora_B: of each layer [n, out_g, r].
        scaling: [n], shared.
        biases: of each layer [out_g] or None.
        segments: which rows belong to which adapter, where they are unequal.
        backend: as in `lora_linear`.

    Returns:
        Of each layer [n, m, out_g] or [M, out_g], x's dtype.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit, other counts of layers than 1 to 3,
            or a backend that cannot run.
    """
    groups = len(weights)
    biases = [None] * groups if biases is None else biases
    counts = {len(lora_A), len(lora_B), len(biases), groups}
    if len(counts) > 1 or not 1 <= groups <= MOST_GROUPS:
        raise ValueError(
            f"weights, lora_A, lora_B, biases: expected 1 to {MOST_GROUPS} layers in each, got "
            f"{groups}, {len(lora_A)}, {len(lora_B)}, {len(biases)}"
        )
    n = check_rows(x, segments)
    for weight, A, B, bias in zip(weights, lora_A, lora_B, biases, strict=True):
        check_arguments(x, weight, A, B, scaling, bias, n)
    r = lora_A[0].shape[1]
    if any(A.shape[1] != r for A in lora_A):
        raise ValueError(f"lora_A: expected one rank, got {[A.shape[1] for A in lora_A]}")
    if segments is not None and (segments.largest_rank or 0) > r:
        raise ValueError(f"ranks: expected at most {r}, got {segments.largest_rank}")
    given = []
    if any(bias is not None for bias in biases):
        given = [
            weight.new_zeros(len(weight)) if bias is None else bias
            for weight, bias in zip(weights, biases, strict=True)
        ]
    flat = x.reshape(-1, x.shape[-1])
    offsets, ranks, longest = None, None, x.shape[-2]
    if segments is not None:
        offsets, ranks, longest = segments.offsets, segments.ranks, segments.longest
    refuse_tangents(x, *lora_A, *lora_B, scaling)
    chosen = choose_backend(backend, x.device, x.dtype, r)
    if torch.compiler.is_compiling() or type(x) not in (Tensor, torch.nn.Parameter):
        # A tracer, or a tensor of its own kind that one brings along.
        _, *outputs = lora_forward(
            flat,
            list(weights),
            list(lora_A),
            list(lora_B),
            scaling,
            given,
            offsets,
            ranks,
            longest,
            chosen,
        )
    else:
        tensors = (*weights, *lora_A, *lora_B, *given)
        outputs = EagerLoRA.apply(groups, longest, chosen, offsets, ranks, scaling, flat, *tensors)
    return tuple(y.view(*x.shape[:-1], y.shape[-1]) for y in outputs)
