"""The last position of every slot's share: a causal encoder has read the whole share by then."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.latents import Latents, States, slot_mask
from llgbm.latentwire.poolers.base import POOLERS, Pooler
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig


@POOLERS.register("last")
@dataclass(frozen=True)
class LastPoolerConfig:
    """Last states of contiguous shares; nothing is trained here."""

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> LastPooler:
        """Build it."""
        return LastPooler(encoder.width)


class LastPooler(Pooler):
    """State at the end of each slot's share of the text."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`."""
        slots = torch.arange(int(counts.max()), device=counts.device)
        # As `segments` divides: share j ends before floor((j + 1) t / m), and is never empty.
        begin = slots[None, :] * states.lengths[:, None] // counts[:, None]
        end = (slots[None, :] + 1) * states.lengths[:, None] // counts[:, None]
        places = (torch.maximum(end, begin + 1) - 1).clamp(max=states.values.shape[1] - 1)
        values = states.values.gather(1, places[..., None].expand(-1, -1, self.width))
        mask = slot_mask(counts)
        return Latents(values * mask[..., None], mask)
