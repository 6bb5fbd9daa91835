"""Warm-up alignment: the first slots begin as the embeddings of the first tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from torch.nn.functional import mse_loss

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.slot_embeds import require_embeddings, slot_embeds
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


def _falling() -> ScheduleConfig:
    return ScheduleConfig(shape="linear", start_value=1.0, end_value=0.0, end=0.2)


@TERMS.register("warmup_alignment")
@dataclass(frozen=True)
class WarmupAlignmentTermConfig:
    """Squared distance of the first slots to the embeddings of the context's first tokens.

    Args:
        weight: of the term.
        schedule: of the weight; falls to 0 over the first fifth of training.
        slots: how many, at most as many as a text has slots and tokens.
    """

    weight: float = 0.5
    schedule: ScheduleConfig = field(default_factory=_falling)
    slots: int = 4

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ConfigError(f"warmup_alignment.slots: expected at least 1, got {self.slots}")

    def build(self, compressor: Compressor, reader: Reader) -> WarmupAlignmentTerm:
        """Build it.

        Raises:
            ConfigError: the way in reads no embeddings.
        """
        require_embeddings("warmup_alignment", compressor)
        return WarmupAlignmentTerm(self.slots, reader.embedding_rms)


class WarmupAlignmentTerm(Term):
    """Mean squared error over the mean square of the reader's embeddings: 1 is far, 0 equal."""

    def __init__(self, slots: int, rms: float) -> None:
        super().__init__()
        self.slots, self.rms = slots, rms

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        embeds, mask = slot_embeds(step)
        tokens, real = step.context_embeddings
        most = min(self.slots, embeds.shape[1], tokens.shape[1])
        both = (mask[:, :most] & real[:, :most])[..., None].expand(-1, -1, embeds.shape[-1])
        return mse_loss(embeds[:, :most][both], tokens[:, :most][both]) / self.rms**2
