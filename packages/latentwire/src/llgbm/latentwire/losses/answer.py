"""Cross-entropy of the answer's tokens, teacher-forced: the term that everything serves."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


@TERMS.register("answer")
@dataclass(frozen=True)
class AnswerTermConfig:
    """Mean nats of the answers' tokens.

    Args:
        weight: of the term.
        schedule: of the weight.
    """

    weight: float = 1.0
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def build(self, compressor: Compressor, reader: Reader) -> AnswerTerm:
        """Build it."""
        return AnswerTerm()


class AnswerTerm(Term):
    """Every token of every answer of the batch weighs alike."""

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        scored = step.scored
        first = scored.step == 0
        self.logged = {
            "first_token": float(
                (scored.logits[first].argmax(-1) == scored.targets[first]).float().mean()
            )
        }
        return scored.nll.mean()
