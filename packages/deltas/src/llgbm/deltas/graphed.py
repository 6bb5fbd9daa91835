"""Deltas by CUDA graphs: a training step of fixed shapes without launch overhead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.delta import DeltaSpec, compute_base_activation, compute_delta, tokenized
from llgbm.deltas.errors import ModelError
from llgbm.deltas.probes import ProbeSet, TokenizedProbes
from llgbm.deltas.spec import LoRASpec, device_of
from llgbm.deltas.weights import LoRAWeights

GraphedDelta = Callable[[LoRAWeights], Tensor]


def graphed_delta(
    model: nn.Module,
    lora_spec: LoRASpec,
    n: int,
    probes: ProbeSet | TokenizedProbes,
    spec: DeltaSpec | None = None,
) -> GraphedDelta:
    """Capture `compute_delta` of n adapters, forward and backward, and return its replay.

    A step of a small model is hundreds of short kernels, which a GPU finishes faster than Python
    launches them; a graph launches them all at once. Call it before other work on the GPU.

    Args:
        model: frozen base on a CUDA device.
        lora_spec: of all adapters that will come.
        n: how many come in each call.
        probes: p texts.
        spec: what to read; the default DeltaSpec where None.

    Returns:
        A function of n adapters (float32 factors on the model's device) to their deltas, shaped
        as `compute_delta` gives them and differentiable once in the factors.

    Raises:
        ModelError: the model is not on a CUDA device.
    """
    device = device_of(model)
    if device.type != "cuda":
        raise ModelError(f"graphed_delta: model: expected a CUDA device, got {device}")
    tokens = tokenized(model, probes)
    tokens = TokenizedProbes(
        tokens.input_ids.to(device), tokens.lengths.to(device), tokens.fingerprint
    )
    base = compute_base_activation(model, tokens, spec)

    def plain(*factors: Tensor) -> Tensor:
        return compute_delta(model, from_factors(lora_spec, factors), tokens, spec, base)

    sample = LoRAWeights.zeros(lora_spec, n).to(device)
    wanted = [factor.clone().requires_grad_() for factor in factors_of(sample)]
    replay: Any = torch.cuda.make_graphed_callables(plain, tuple(wanted))

    def graphed(weights: LoRAWeights) -> Tensor:
        if weights.spec != lora_spec or weights.n != n:
            raise ValueError(
                f"graphed_delta: weights: expected {n} adapters of the captured spec, got "
                f"{weights.n}"
            )
        delta: Tensor = replay(*factors_of(weights))
        return delta

    return graphed


def factors_of(weights: LoRAWeights) -> list[Tensor]:
    """A and B of each module, in the order of the spec."""
    return [
        factor
        for path in weights.spec.paths
        for factor in (weights.lora_A[path], weights.lora_B[path])
    ]


def from_factors(spec: LoRASpec, factors: tuple[Tensor, ...] | list[Tensor]) -> LoRAWeights:
    """The inverse of `factors_of`."""
    return LoRAWeights(
        spec,
        dict(zip(spec.paths, factors[0::2], strict=True)),
        dict(zip(spec.paths, factors[1::2], strict=True)),
    )
