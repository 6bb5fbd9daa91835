"""How many slots a text is given: a share of its tokens, or a fixed number."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.latentwire.errors import ConfigError, PromptError


@dataclass(frozen=True)
class SlotsConfig:
    """Slots of every text.

    Args:
        ratio: tokens of the text a slot (4: a quarter as many slots); used where `fixed` is 0.
        fixed: the same number for every text, whatever its length.
        largest: a text that needs more is refused.
    """

    ratio: float = 4.0
    fixed: int = 0
    largest: int = 512

    def __post_init__(self) -> None:
        if self.ratio < 1 or self.fixed < 0 or self.largest < 1 or self.fixed > self.largest:
            raise ConfigError(
                "slots: expected a ratio of at least 1 and fixed from 0 to largest, "
                f"got ratio {self.ratio:g}, fixed {self.fixed}, largest {self.largest}"
            )

    def counts(self, tokens: Tensor) -> Tensor:
        """Slots [b] of texts with so many tokens [b] (int64); at least 1 each.

        Raises:
            PromptError: a text that needs more than the largest number.
        """
        if self.fixed:
            return torch.full_like(tokens, self.fixed)
        counts = torch.ceil(tokens / self.ratio).long().clamp(min=1)
        most = int(counts.max())
        if most > self.largest:
            raise PromptError(
                f"text: expected at most {self.largest} slots, got {int(tokens.max())} tokens for "
                f"{most} slots: split the text, or train with a higher slots.largest or ratio"
            )
        return counts

    @property
    def longest(self) -> int:
        """Tokens of the longest text that is not refused."""
        return 2**31 if self.fixed else int(self.largest * self.ratio)

    @property
    def most(self) -> int:
        """Slots that a part with a table of slots needs."""
        return self.fixed or self.largest
