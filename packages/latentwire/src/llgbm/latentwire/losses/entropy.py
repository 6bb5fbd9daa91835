"""Entropy bonus: a first-token distribution that is not all on one word."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


@TERMS.register("entropy")
@dataclass(frozen=True)
class EntropyTermConfig:
    """What the first token's entropy lacks, with a bonus that has a bound.

    Args:
        weight: of the term.
        schedule: of the weight.
        most: nats that the bonus comes near and never reaches; beyond it there is nearly no
            gradient, so that distributions are not driven flat (seed 004: flat ones did not help).
    """

    weight: float = 0.1
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    most: float = 3.0

    def __post_init__(self) -> None:
        if not self.most > 0:
            raise ConfigError(f"entropy.most: expected above 0, got {self.most:g}")

    def build(self, compressor: Compressor, reader: Reader) -> EntropyTerm:
        """Build it."""
        return EntropyTerm(self.most)


class EntropyTerm(Term):
    """Mean over answers of most * (1 - tanh(entropy / most)): from most, at entropy 0, to 0."""

    def __init__(self, most: float) -> None:
        super().__init__()
        self.most = most

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        scored = step.scored
        chances = scored.logits[scored.step == 0].log_softmax(-1)
        entropy = -(chances.exp() * chances).sum(-1)
        self.logged = {"nats": float(entropy.detach().mean())}
        return (self.most * (1 - (entropy / self.most).tanh())).mean()
