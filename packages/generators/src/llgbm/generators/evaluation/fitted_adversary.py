"""The rank-1 adversary, fitted further: to whatever losses it is to be taken for the teacher by."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from llgbm.deltas.weights import LoRAWeights

STEPS, LR = 60, 0.05


def fit_adapters(
    start: LoRAWeights,
    losses: Callable[[LoRAWeights], Tensor],
    steps: int = STEPS,
    lr: float = LR,
) -> LoRAWeights:
    """Lower the losses of n adapters by Adam on all their factors; the best of each is returned.

    Args:
        start: n adapters, on the device to fit on.
        losses: gives each adapter's loss, [n], differentiable.
        steps: of Adam.
        lr: in units of a factor's root mean square; falls along a cosine.

    Returns:
        n adapters, none worse than at the start.
    """
    sizes = [
        {path: factor.square().mean((1, 2), keepdim=True).sqrt().clamp_min(1e-12)
         for path, factor in factors.items()}
        for factors in (start.lora_A, start.lora_B)
    ]  # fmt: skip
    units = [
        {path: (factor / size[path]).detach().requires_grad_(True) for path, factor in f.items()}
        for f, size in zip((start.lora_A, start.lora_B), sizes, strict=True)
    ]

    def weights() -> LoRAWeights:
        lora_A, lora_B = (
            {path: unit[path] * size[path] for path in unit}
            for unit, size in zip(units, sizes, strict=True)
        )
        return LoRAWeights(start.spec, lora_A, lora_B)

    optimizer = torch.optim.Adam([tensor for unit in units for tensor in unit.values()], lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=lr / 50)
    best, lowest = start, torch.full((start.n,), float("inf"), device=start.device)
    with torch.enable_grad():
        for step in range(steps + 1):
            now = weights()
            found = losses(now)
            better = found.detach() < lowest
            lowest = torch.where(better, found.detach(), lowest)
            best = chosen(better, now.detach(), best)
            if step == steps:
                break
            optimizer.zero_grad(set_to_none=True)
            found.sum().backward()
            optimizer.step()
            schedule.step()
    return best


def chosen(better: Tensor, new: LoRAWeights, old: LoRAWeights) -> LoRAWeights:
    """Adapter by adapter, `new` where `better` [n] says so."""
    where = better[:, None, None]
    return LoRAWeights(
        new.spec,
        {path: torch.where(where, new.lora_A[path], old.lora_A[path]) for path in new.lora_A},
        {path: torch.where(where, new.lora_B[path], old.lora_B[path]) for path in new.lora_B},
    )
