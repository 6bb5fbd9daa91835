"""An orthonormal basis of ΔW's columns, and ΔW's coordinates in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.deltas.canonical.form import Parts
from llgbm.deltas.canonical.product_svd import product_svd


@dataclass(frozen=True)
class OrthogonalForm:
    """q [n, out, r] orthonormal and coordinates [n, r, in] = qᵀ ΔW.

    q is the QR basis, of positive diagonal, of r fixed random vectors projected onto ΔW's column
    space: it depends on ΔW alone, where the QR of A or B (seed 000, trick 1) turns with the gauge.

    Args:
        seed: of the vectors.
    """

    seed: int = 0
    name: str = field(default="qr", init=False)
    gauge_free: bool = field(default=True, init=False)

    def parts(self, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Parts:
        """See CanonicalForm."""
        out, r = lora_B.shape[1:]
        dtype = lora_A.dtype
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randn(out, r, generator=generator, dtype=torch.float64).to(lora_A.device)
        # In float64: what few random vectors see of a direction may be next to nothing.
        lora_A, lora_B = lora_A.double(), lora_B.double()
        # Any basis of the space would do; directions of rounding, as of a deficient update, are
        # zero in this one. They stand last and stay zero in the products.
        basis = product_svd(lora_A, lora_B, torch.finfo(dtype).eps)[0]
        turn, triangle = torch.linalg.qr(basis.mT @ drawn)
        q = basis @ (turn * torch.where(triangle.diagonal(dim1=1, dim2=2) < 0, -1.0, 1.0)[:, None])
        coordinates = scaling * (q.mT @ lora_B) @ lora_A
        return {"q": q.to(dtype), "coordinates": coordinates.to(dtype)}

    def factors(self, parts: Parts, r: int, scaling: float) -> tuple[Tensor, Tensor]:
        """See CanonicalForm."""
        q, coordinates = parts["q"], parts["coordinates"]
        missing = r - q.shape[2]
        return F.pad(coordinates / scaling, (0, 0, 0, missing)), F.pad(q, (0, missing))
