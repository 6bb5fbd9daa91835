"""Cross-entropy of the first few tokens of each answer."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


@TERMS.register("first_tokens")
@dataclass(frozen=True)
class FirstTokensTermConfig:
    """Mean nats of the first tokens of every answer.

    Args:
        weight: of the term.
        schedule: of the weight.
        tokens: how many of each answer (K in the seed); a shorter one counts whole.
    """

    weight: float = 0.5
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    tokens: int = 4

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ConfigError(f"first_tokens.tokens: expected at least 1, got {self.tokens}")

    def build(self, compressor: Compressor, reader: Reader) -> FirstTokensTerm:
        """Build it."""
        return FirstTokensTerm(self.tokens)


class FirstTokensTerm(Term):
    """Every one of the first tokens of the batch weighs alike."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        scored = step.scored
        return scored.nll[scored.step < self.tokens].mean()
