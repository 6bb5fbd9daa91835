"""Selected positions: a learned score says which positions of a text are worth a slot.

After KV-Distill (a scorer and an adapter choose and fill the positions that are kept): for
latents that are keys and values, a position that is kept says exactly what its token was, and by
the encoder's adapter also what stood around it. Which positions those are is learned twice: by
the loss `selection`, from where answers stand, and by every other loss, through the score of what
was kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.latents import Latents, States, slot_mask
from llgbm.latentwire.poolers.base import POOLERS
from llgbm.latentwire.poolers.scored import ScoredPooler, chosen, passed
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig


@POOLERS.register("select")
@dataclass(frozen=True)
class SelectPoolerConfig:
    """As many positions as there are slots, those with the highest scores, in the text's order."""

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> SelectPooler:
        """Build it."""
        return SelectPooler(encoder.width)


class SelectPooler(ScoredPooler):
    """States of the positions that a linear score of standardised states ranks highest."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        # A bias would change no rank.
        self.score = nn.Linear(width, 1, bias=False)
        nn.init.normal_(self.score.weight, std=0.1 / width**0.5)

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`; the latents come with the scores of all positions."""
        scores = self.score(self.standard(states.values))[..., 0]
        places = chosen(scores.detach(), states.lengths, counts)
        values = states.values.gather(1, places[..., None].expand(-1, -1, self.width))
        values = values * passed(scores.gather(1, places))[..., None]
        mask = slot_mask(counts)
        return Latents(values * mask[..., None], mask, scores)
