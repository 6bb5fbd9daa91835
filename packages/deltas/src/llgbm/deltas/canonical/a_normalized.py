"""A with rows of length one: simple, and only half a canonical form."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.deltas.canonical.form import Parts


@dataclass(frozen=True)
class ANormalizedForm:
    """lora_A [n, r, in] with rows of length one, their lengths and the scaling in lora_B.

    It settles the sizes of A and B; rotations and mixtures of rows remain (seed 000, trick 1).
    """

    name: str = field(default="a_normalized", init=False)
    gauge_free: bool = field(default=False, init=False)

    def parts(self, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Parts:
        """See CanonicalForm."""
        lengths = lora_A.norm(dim=2)
        safe = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
        return {"lora_A": lora_A / safe[..., None], "lora_B": scaling * lora_B * lengths[:, None]}

    def factors(self, parts: Parts, r: int, scaling: float) -> tuple[Tensor, Tensor]:
        """See CanonicalForm."""
        lora_A, lora_B = parts["lora_A"], parts["lora_B"] / scaling
        missing = r - lora_A.shape[1]
        return F.pad(lora_A, (0, 0, 0, missing)), F.pad(lora_B, (0, missing))
