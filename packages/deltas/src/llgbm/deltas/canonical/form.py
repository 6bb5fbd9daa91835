"""What a canonical form is: an update's parts, and the factors that have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

Parts = Mapping[str, Tensor]


class CanonicalForm(Protocol):
    """A form of one module's updates, with its inverse.

    Attributes:
        name: on command lines.
        gauge_free: whether all factors of one update have the same parts.
    """

    @property
    def name(self) -> str:
        """Name on command lines."""
        ...

    @property
    def gauge_free(self) -> bool:
        """Whether all factors of one update have the same parts."""
        ...

    def parts(self, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Parts:
        """Return the parts of n updates.

        Args:
            lora_A: [n, r, in] float32 or float64.
            lora_B: [n, out, r] of the same type.
            scaling: lora_alpha / r.

        Returns:
            Name -> [n, ...] of the same type.
        """
        ...

    def factors(self, parts: Parts, r: int, scaling: float) -> tuple[Tensor, Tensor]:
        """Return factors whose update has these parts: A [n, r, in] and B [n, out, r]."""
        ...
