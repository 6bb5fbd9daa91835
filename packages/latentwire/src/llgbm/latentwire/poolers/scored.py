"""How a score that only ranks learns from any loss."""

from __future__ import annotations

from torch import Tensor


def passed(scores: Tensor) -> Tensor:
    """Factor that is 1 in the forward pass and tells scores what the kept states do to the loss."""
    gate = scores.sigmoid()
    return 1 + gate - gate.detach()
