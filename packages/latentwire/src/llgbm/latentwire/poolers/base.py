"""What every pooler is, where poolers are registered, and how positions are divided into slots."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.latents import Latents, States, slot_mask
from llgbm.latentwire.registry import Registry

# A config's `build(encoder: Encoder, reader: Reader, slots: SlotsConfig) -> Pooler`.
POOLERS = Registry("pooler")


class Pooler(nn.Module, ABC):
    """Turns states into as many slots as are asked for.

    Attributes:
        width: z of the latents that it returns.
        slots_alike: whether every slot says something by itself; where not, none can be left out,
            exchanged or averaged alone.
    """

    width: int
    slots_alike: bool = True
    name: ClassVar[str]

    def fit(self, encoder: Encoder, texts: Sequence[str]) -> None:
        """Fit what is fitted once, on all texts of the training split (anchor rule 18).

        Called before the first step; most poolers have nothing to fit.
        """

    @abstractmethod
    def forward(self, states: States, counts: Tensor) -> Latents:
        """Latents [b, max(counts), z].

        Args:
            states: of b texts.
            counts: [b] int64, slots of every text, at least 1.
        """


def segments(lengths: Tensor, counts: Tensor) -> Tensor:
    """Which positions belong to which slot: contiguous, of nearly equal size.

    Slot j of a text of t positions and m slots holds those from floor(j t / m) up to
    floor((j + 1) t / m), and one position where that is none (more slots than positions).

    Args:
        lengths: [b] int64, positions of every text.
        counts: [b] int64, slots of every text.

    Returns:
        [b, max(counts), max(lengths)] float32, rows of real slots sum to 1, others are zero.
    """
    slots = torch.arange(int(counts.max()), device=counts.device)
    begin = slots[None, :] * lengths[:, None] // counts[:, None]
    end = (slots[None, :] + 1) * lengths[:, None] // counts[:, None]
    end = torch.maximum(end, begin + 1)
    places = torch.arange(int(lengths.max()), device=counts.device)
    held = (places >= begin[..., None]) & (places < end[..., None])
    held &= slot_mask(counts)[..., None]
    weights = held.float()
    return weights / weights.sum(-1, keepdim=True).clamp(min=1)
