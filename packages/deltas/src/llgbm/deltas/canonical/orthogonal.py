"""An orthonormal basis of ΔW's columns, and ΔW's coordinates in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.deltas.canonical.form import Parts


@dataclass(frozen=True)
class OrthogonalForm:
    """q [n, out, r] orthonormal and coordinates [n, r, in] = qᵀ ΔW.

    q is the QR basis, of positive diagonal, of r fixed random combinations of ΔW's columns: it
    depends on ΔW alone, where the QR of A or B (seed 000, trick 1) turns with the gauge.

    Args:
        seed: of the combinations.
    """

    seed: int = 0
    name: str = field(default="qr", init=False)
    gauge_free: bool = field(default=True, init=False)

    def parts(self, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Parts:
        """See CanonicalForm."""
        r, width = lora_A.shape[1:]
        dtype = lora_A.dtype
        generator = torch.Generator().manual_seed(self.seed)
        mix = torch.randn(width, r, generator=generator, dtype=torch.float64) / width**0.5
        # In float64: what few combinations of columns see of ΔW's space is blurred by rounding as
        # much as the combinations are alike.
        lora_A, lora_B = lora_A.double(), lora_B.double()
        q, triangle = torch.linalg.qr(lora_B @ (lora_A @ mix.to(lora_A.device)))
        diagonal = triangle.diagonal(dim1=1, dim2=2)
        # A basis vector of rounding, as of a deficient update, is no direction of ΔW.
        size = diagonal.abs()
        kept = size > 1e3 * torch.finfo(dtype).eps * size.amax(1, keepdim=True)
        q = q * (torch.where(diagonal < 0, -1.0, 1.0).to(q.dtype) * kept)[:, None]
        q = F.pad(q, (0, r - q.shape[2]))
        coordinates = scaling * (q.mT @ lora_B) @ lora_A
        return {"q": q.to(dtype), "coordinates": coordinates.to(dtype)}

    def factors(self, parts: Parts, r: int, scaling: float) -> tuple[Tensor, Tensor]:
        """See CanonicalForm."""
        q, coordinates = parts["q"], parts["coordinates"]
        missing = r - q.shape[2]
        return F.pad(coordinates / scaling, (0, 0, 0, missing)), F.pad(q, (0, missing))
