"""ΔW itself: unique, and large."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from llgbm.deltas.canonical.form import Parts
from llgbm.deltas.canonical.product_svd import balanced_factors, leading_svd


@dataclass(frozen=True)
class DeltaWForm:
    """delta_w [n, out, in] = scaling · B A (seed 000, trick 1); its inverse truncates to rank r."""

    name: str = field(default="delta_w", init=False)
    gauge_free: bool = field(default=True, init=False)

    def parts(self, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Parts:
        """See CanonicalForm."""
        return {"delta_w": scaling * (lora_B @ lora_A)}

    def factors(self, parts: Parts, r: int, scaling: float) -> tuple[Tensor, Tensor]:
        """See CanonicalForm."""
        return balanced_factors(*leading_svd(parts["delta_w"], r), r, scaling)
