"""Random gauges: other factors of the same updates."""

from __future__ import annotations

import torch

from llgbm.deltas.weights import LoRAWeights


def random_gauge(
    weights: LoRAWeights, generator: torch.Generator, spread: float = 0.5
) -> LoRAWeights:
    """Return adapters with B R and R⁻¹ A in place of B and A, another R for each module.

    Args:
        weights: n adapters.
        generator: on the CPU.
        spread: standard deviation of the logarithms of R's singular values.
    """
    n, r = weights.n, weights.spec.r
    lora_A, lora_B = {}, {}
    for path in weights.spec.paths:
        A, B = weights.lora_A[path], weights.lora_B[path]
        (left, _), (right, _) = (
            torch.linalg.qr(torch.randn(n, r, r, generator=generator, dtype=torch.float64))
            for _ in range(2)
        )
        scales = (spread * torch.randn(n, r, generator=generator, dtype=torch.float64)).exp()
        there = ((left * scales[:, None]) @ right).to(A)
        back = ((right.mT / scales[:, None]) @ left.mT).to(A)
        lora_A[path], lora_B[path] = back @ A, B @ there
    return LoRAWeights(weights.spec, lora_A, lora_B)
