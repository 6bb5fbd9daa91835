"""Rows: how the rows of a flat batch are shared among adapters, inside the backends."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """Sharing of M rows among n adapters.

    Attributes:
        n: adapters.
        longest: most rows of one; every one has as many where `offsets` is None.
        offsets: [n + 1] int64 on the device, or None.
        ranks: [n] int64 on the device, or None where all ranks count.
    """

    n: int
    longest: int
    offsets: Tensor | None = None
    ranks: Tensor | None = None
