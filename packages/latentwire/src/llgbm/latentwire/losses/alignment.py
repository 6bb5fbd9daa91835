"""Latent alignment: each slot near the reader's embeddings of the tokens that it stands for."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from torch.nn.functional import cosine_similarity

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.slot_embeds import require_embeddings, slot_embeds
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.poolers.base import segments
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


@TERMS.register("alignment")
@dataclass(frozen=True)
class AlignmentTermConfig:
    """1 - cosine of every slot and the mean embedding of its segment of the context.

    Args:
        weight: of the term.
        schedule: of the weight.
    """

    weight: float = 0.5
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def build(self, compressor: Compressor, reader: Reader) -> AlignmentTerm:
        """Build it.

        Raises:
            ConfigError: the way in reads no embeddings.
        """
        require_embeddings("alignment", compressor)
        return AlignmentTerm()


class AlignmentTerm(Term):
    """Every real slot of the batch weighs alike; segments are those of `segments`."""

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        embeds, mask = slot_embeds(step)
        tokens, real = step.context_embeddings
        wanted = segments(real.sum(1), mask.sum(1)) @ tokens
        cosine = cosine_similarity(embeds[mask], wanted[mask], dim=-1).mean()
        self.logged = {"cosine": float(cosine.detach())}
        return 1 - cosine
