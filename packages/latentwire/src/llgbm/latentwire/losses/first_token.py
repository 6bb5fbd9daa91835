"""Cross-entropy of each answer's first token, the one that latents get wrong first."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig

LARGEST = 4.0
SMOOTHING = 0.9


@TERMS.register("first_token")
@dataclass(frozen=True)
class FirstTokenTermConfig:
    """Mean nats of the answers' first tokens.

    Args:
        weight: of the term.
        schedule: of the weight; `peak` is strong first and tapers.
        up_weight: the term is multiplied by up to this, at most 4, while first tokens are seldom
            right; 1 leaves it alone.
        wanted_accuracy: smoothed share of right first tokens at which that multiplier is down to
            1; it falls to it in a straight line.
    """

    weight: float = 0.5
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    up_weight: float = 1.0
    wanted_accuracy: float = 0.5

    def __post_init__(self) -> None:
        largest = self.up_weight
        if self.schedule.shape == "peak":
            largest *= self.schedule.peak
        if self.up_weight < 1 or not largest <= LARGEST:
            raise ConfigError(
                f"first_token.up_weight: expected at least 1, and at most {LARGEST:g} together "
                f"with the schedule's peak, got {self.up_weight:g}, together {largest:g}"
            )
        if not 0 < self.wanted_accuracy <= 1:
            raise ConfigError(
                "first_token.wanted_accuracy: expected above 0, at most 1, "
                f"got {self.wanted_accuracy:g}"
            )

    def build(self, compressor: Compressor, reader: Reader) -> FirstTokenTerm:
        """Build it."""
        return FirstTokenTerm(self)


class FirstTokenTerm(Term):
    """Mean nats of first tokens; the multiplier follows what training sees, and is resumed.

    Source: seed 004, first-token auto-scaling, capped at 4.
    """

    accuracy: Tensor

    def __init__(self, config: FirstTokenTermConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("accuracy", torch.zeros(()))

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        scored = step.scored
        first = scored.step == 0
        logits, targets = scored.logits[first], scored.targets[first]
        if self.training:
            right = (logits.argmax(-1) == targets).float().mean()
            self.accuracy.lerp_(right, 1 - SMOOTHING)
        short = max(0.0, 1 - float(self.accuracy) / self.config.wanted_accuracy)
        factor = 1 + (self.config.up_weight - 1) * short
        self.logged = {"accuracy": float(self.accuracy), "factor": factor}
        return factor * cross_entropy(logits, targets)
