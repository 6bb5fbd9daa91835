"""What stops a benchmark before it times anything."""

from __future__ import annotations

import torch

from llgbm.deltas.errors import LLGBMError


class GateError(LLGBMError):
    """A rival gave another result: nothing is timed."""

    def __init__(self, rival: str, allowed: float, dtype: torch.dtype, got: float) -> None:
        super().__init__(
            f"{rival}: relative error: expected at most {allowed:.3g} in {dtype}, got {got:.3g}; "
            "nothing was timed"
        )
