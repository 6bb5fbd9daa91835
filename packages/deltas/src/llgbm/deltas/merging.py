"""Merging adapters in the space of their updates ΔW, never of their factors apart.

The mean of A and the mean of B multiply to cross terms between adapters that no one trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from llgbm.deltas.canonical.product_svd import balanced_factors, leading_svd, product_svd
from llgbm.deltas.errors import AdapterError, SettingError
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights

MergeMethod = Literal["average", "ties", "dare"]


def require_density(density: float) -> None:
    """Raise SettingError unless `density` is a share of entries to keep."""
    if not 0 < density <= 1:
        raise SettingError(f"density: expected above 0 and at most 1, got {density:g}")


def merge(
    weights: LoRAWeights,
    coefficients: Sequence[float] | None = None,
    method: MergeMethod = "average",
    r: int | None = None,
    density: float = 0.5,
    generator: torch.Generator | None = None,
) -> LoRAWeights:
    """Merge n adapters into one of rank r.

    `average` is exact up to the truncation to rank r: Σ c_i B_i A_i is the product of the
    concatenated factors, refactored through QR and the SVD of a small core. `ties` and `dare`
    work entry by entry, so they form ΔW of one module at a time (PEFT's functions) and truncate
    its SVD. TIES (arXiv 2306.01708): trim each update to its largest entries, elect a sign an
    entry, and take the mean of c_i ΔW_i over those that agree. DARE (arXiv 2311.03099): drop
    entries at random, rescale the rest, and sum c_i ΔW_i.

    Args:
        weights: n adapters.
        coefficients: n numbers; where None, 1/n each, but 1 each for ties, which takes a mean
            itself.
        method: how updates are combined.
        r: rank of the result; the adapters' own where None. lora_alpha / r stays.
        density: share of entries that ties and dare keep.
        generator: of dare's random masks, on the CPU; seed 0 where None.

    Returns:
        One adapter (n = 1), float32.

    Raises:
        ValueError: another number of coefficients, or an unknown method.
        SettingError: coefficients that are no finite float32, a density outside 0 to 1, or r
            below 1.
        AdapterError: NaN or Inf in a factor, or in what they add up to.
    """
    n, spec = weights.n, weights.spec
    if method not in ("average", "ties", "dare"):
        raise ValueError(f"method: expected average, ties or dare, got {method!r}")
    require_density(density)
    weights.check_finite("merge")
    default = 1.0 if method == "ties" else 1.0 / n
    shares = torch.tensor([default] * n if coefficients is None else list(coefficients))
    if len(shares) != n:
        raise ValueError(f"coefficients: expected {n}, one an adapter, got {len(shares)}")
    if not shares.isfinite().all():
        raise SettingError(f"coefficients: expected finite numbers, got {coefficients}")
    # One generator for all modules: a seed each would drop the same entries in all of one shape.
    generator = generator or torch.Generator().manual_seed(0)
    rank = spec.r if r is None else r
    merged = LoRASpec(spec.modules, rank, spec.scaling * rank)
    lora_A, lora_B = {}, {}
    for path in spec.paths:
        A, B = weights.lora_A[path].detach().float(), weights.lora_B[path].detach().float()
        try:
            if method == "average":
                factors = _average(A, B, shares.to(A.device), rank)
            else:
                update = _combined(B @ A, shares.to(A.device), method, density, generator)
                factors = _truncated(update, rank)
            finite = all(bool(factor.isfinite().all()) for factor in factors)
        except torch.linalg.LinAlgError:
            finite = False
        if not finite:
            raise AdapterError(f"merge: {path}: expected a sum within float32, got one beyond")
        lora_A[path], lora_B[path] = factors[0][None], factors[1][None]
    return LoRAWeights(merged, lora_A, lora_B)


def _average(A: Tensor, B: Tensor, shares: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Best rank-`rank` factors of Σ c_i B_i A_i, from A [n, r, in] and B [n, out, r]."""
    wide = A.flatten(0, 1)  # [n r, in]
    tall = (B * shares[:, None, None]).permute(1, 0, 2).flatten(1)  # [out, n r]
    if len(wide) > min(tall.shape[0], wide.shape[1]):
        return _truncated(tall @ wide, rank)  # the core would be larger than the update
    u, s, vh = product_svd(wide[None], tall[None])
    return balanced_factors(u[0], s[0], vh[0], rank)


def _truncated(update: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Best rank-`rank` factors of a full update [out, in]."""
    return balanced_factors(*leading_svd(update, rank), rank)


def _combined(
    updates: Tensor,
    shares: Tensor,
    method: MergeMethod,
    density: float,
    generator: torch.Generator,
) -> Tensor:
    """Combine updates [n, out, in] entry by entry with PEFT's functions."""
    from peft.utils import merge_utils

    if method == "ties":
        merged: Tensor = merge_utils.ties(list(updates), shares, density)
        return merged
    # PEFT's dare draws from the global generators: lend them our seed.
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        merged = merge_utils.dare_linear(list(updates), shares, density)
    return merged  # noqa: RET504
