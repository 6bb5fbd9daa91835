"""Which slots both readers see and which a single one: [shared | first's own | second's own]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, stack

FIRST, SECOND = "first", "second"
READERS = (FIRST, SECOND)
SHARED = "shared"
# A share of 0.3 of 20 slots is 6, though floats say a little less.
ROUNDING = 1e-9


@dataclass(frozen=True)
class SlotLayout:
    """How the slots of a text are divided; a function of their number alone.

    Args:
        private: share of all slots that a single reader sees, halved between the two; what does
            not divide is shared. 0 for none.
    """

    private: float = 0.25

    def __post_init__(self) -> None:
        if not 0 <= self.private < 1:
            raise ConfigError(f"layout.private: expected from 0 to below 1, got {self.private:g}")

    def parts(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Shared slots [b], at least 1, and each reader's own [b], of texts with counts [b]."""
        each = counts.double() * self.private / len(READERS)
        own = (each + ROUNDING).floor().long()
        return counts - len(READERS) * own, own

    def seen(self, counts: Tensor) -> Tensor:
        """Slots [b] that one reader sees; both see as many."""
        shared, own = self.parts(counts)
        return shared + own

    def holds(self, latents: Latents, part: str) -> Tensor:
        """Mask [b, m] of the slots of a part: `shared`, or a reader's own."""
        shared, own = (each[:, None] for each in self.parts(latents.counts))
        places = torch.arange(latents.mask.shape[1], device=latents.mask.device)[None, :]
        if part == SHARED:
            return places < shared
        begin = shared + READERS.index(part) * own
        return (places >= begin) & (places < begin + own)

    def joined(self, shared: Latents, private: Mapping[str, Latents], own: Tensor) -> Latents:
        """All slots [b, m, z] of their parts.

        Args:
            shared: [b, s, z].
            private: by reader, [b, p, z]; none where no text has private slots.
            own: [b] int64, how many of these a text has; others are left out.
        """
        rows = []
        for place, number in enumerate(own.tolist()):
            parts = [shared.row(place)]
            if number:
                parts += [private[name].values[place, :number] for name in READERS]
            rows.append(torch.cat(parts))
        return stack(rows)

    def shared(self, latents: Latents) -> Latents:
        """The shared slots [b, s, z] of all slots: they stand in the order of the text."""
        return _only(latents, self.holds(latents, SHARED))

    def view(self, latents: Latents, name: str) -> Latents:
        """What one reader sees of all slots: [shared | its own]."""
        return _only(latents, self.holds(latents, SHARED) | self.holds(latents, name))

    def swapped(self, latents: Latents, other: Latents, part: str) -> Latents:
        """The same slots with one part of another text's.

        Args:
            latents: of b texts.
            other: of b other texts, laid out alike.
            part: `shared`, or `private`: both readers' own.

        Raises:
            ConfigError: other numbers of slots.
        """
        if not torch.equal(latents.mask, other.mask):
            raise ConfigError("swapped: expected as many slots of every other text")
        held = self.holds(latents, SHARED) & latents.mask
        if part != SHARED:
            held = ~held & latents.mask
        return Latents(torch.where(held[..., None], other.values, latents.values), latents.mask)


def _only(latents: Latents, held: Tensor) -> Latents:
    """The slots of a mask [b, m]."""
    return stack([row[kept] for row, kept in zip(latents.values, held, strict=True)])
