"""Singular vectors and values of ΔW."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from llgbm.deltas.canonical.form import Parts
from llgbm.deltas.canonical.product_svd import balanced_factors, product_svd


@dataclass(frozen=True)
class SingularForm:
    """u [n, out, r], s [n, r] and vh [n, r, in] of scaling · B A, through the r x r core.

    Unique up to what the decomposition leaves open: the sign of each pair, settled here by making
    the largest entry of each u positive, and rotations among near-equal singular values. Across
    adapters that rule still flips; see `alignment`.
    """

    name: str = field(default="svd", init=False)
    gauge_free: bool = field(default=True, init=False)

    def parts(self, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Parts:
        """See CanonicalForm."""
        u, s, vh = product_svd(lora_A, lora_B)
        largest = u.abs().argmax(dim=1, keepdim=True)
        signs = torch.where(u.gather(1, largest) < 0, -1.0, 1.0).to(u.dtype)
        return {"u": u * signs, "s": s * scaling, "vh": vh * signs.mT}

    def factors(self, parts: Parts, r: int, scaling: float) -> tuple[Tensor, Tensor]:
        """See CanonicalForm."""
        return balanced_factors(parts["u"], parts["s"], parts["vh"], r, scaling)
