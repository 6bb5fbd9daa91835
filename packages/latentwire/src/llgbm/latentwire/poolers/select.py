"""Selected positions: a learned score says which positions of a text are worth a slot.

After KV-Distill (a scorer and an adapter choose and fill the positions that are kept): for
latents that are keys and values, a position that is kept says exactly what its token was, and by
the encoder's adapter also what stood around it. Which positions those are is learned twice: by
the loss `selection`, from where answers stand, and by every other loss, through the score of what
was kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.latents import Latents, States, slot_mask
from llgbm.latentwire.poolers.base import POOLERS, Pooler
from llgbm.latentwire.poolers.scored import passed
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig

# Texts that the size of states is measured on.
MEASURED = 64


@POOLERS.register("select")
@dataclass(frozen=True)
class SelectPoolerConfig:
    """As many positions as there are slots, those with the highest scores, in the text's order."""

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> SelectPooler:
        """Build it."""
        return SelectPooler(encoder.width)


class SelectPooler(Pooler):
    """States of the positions that a linear score of standardised states ranks highest."""

    mean: Tensor
    size: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("size", torch.ones(width))
        # A bias would change no rank.
        self.score = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.score.weight, std=0.1 / width**0.5)

    @torch.no_grad()
    def fit(self, encoder: Encoder, texts: Sequence[str]) -> None:
        """Measure mean and size of every number of the states, on the first texts."""
        total = square = torch.zeros_like(self.mean)
        count = 0
        for text in texts[:MEASURED]:
            values = encoder([text]).values[0]
            total, square = total + values.sum(0), square + values.square().sum(0)
            count += len(values)
        self.mean.copy_(total / count)
        self.size.copy_((square / count - self.mean.square()).clamp(min=1e-12).sqrt())

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`; the latents come with the scores of all positions."""
        standard = (states.values - self.mean) / self.size
        scores = self.score(standard)[..., 0]
        places = chosen(scores.detach(), states.lengths, counts)
        values = states.values.gather(1, places[..., None].expand(-1, -1, self.width))
        values = values * passed(scores.gather(1, places))[..., None]
        mask = slot_mask(counts)
        return Latents(values * mask[..., None], mask, scores)


def chosen(scores: Tensor, lengths: Tensor, counts: Tensor) -> Tensor:
    """Positions [b, max(counts)] int64 with the highest scores of each row, ascending.

    Args:
        scores: [b, t].
        lengths: [b] int64, positions of every row.
        counts: [b] int64, how many to choose; where that is more than there are, the last
            position stands for the rest.
    """
    most = int(counts.max())
    places = torch.zeros(len(scores), most, dtype=torch.long, device=scores.device)
    for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
        best = scores[row, :length].topk(min(length, count)).indices.sort().values
        places[row, : len(best)] = best
        places[row, len(best) :] = length - 1
    return places
