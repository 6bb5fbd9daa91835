"""Scheduled sampling: answers scored after the reader's own words, not after gold ones only."""

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
from llgbm.latentwire.scoring import score


def _rising() -> ScheduleConfig:
    return ScheduleConfig(shape="linear", start_value=0.0, end_value=0.5)


@TERMS.register("scheduled_sampling")
@dataclass(frozen=True)
class ScheduledSamplingTermConfig:
    """Mean nats of gold tokens after answers of which some tokens are the reader's.

    Args:
        weight: of the term.
        schedule: of the weight.
        probability: its factor is the probability that a token is the reader's.
    """

    weight: float = 0.5
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    probability: ScheduleConfig = field(default_factory=_rising)

    def __post_init__(self) -> None:
        given = self.probability
        if given.shape == "peak" or given.gate or max(given.start_value, given.end_value) > 1:
            raise ConfigError(
                "scheduled_sampling.probability: expected no peak, no gate and values from 0 to "
                f"1, got {given}"
            )

    def build(self, compressor: Compressor, reader: Reader) -> ScheduledSamplingTerm:
        """Build it."""
        return ScheduledSamplingTerm(self.probability)


class ScheduledSamplingTerm(Term):
    """The reader's tokens are its best ones in the teacher-forced pass; targets stay gold.

    Source: Bengio et al. 2015; two passes instead of writing, after Mihaylova and Martins 2019.
    """

    def __init__(self, probability: ScheduleConfig) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        gold = step.scored
        chance = self.probability.factor(step.number / max(1, step.steps))
        drawn = torch.rand(len(gold.targets), generator=step.generator("scheduled_sampling"))
        own = gold.logits.argmax(-1)
        read = torch.where((drawn < chance).to(own.device), own, gold.targets)
        self.logged = {"replaced": float((read != gold.targets).float().mean())}
        if torch.equal(read, gold.targets):
            return gold.nll.mean()
        lengths = torch.bincount(gold.row, minlength=len(step.examples)).tolist()
        answers = [part.tolist() for part in read.split(lengths)]
        with step.compressor.attached(step.latents):
            again = score(step.reader, step.prefix, step.endings, answers, step.marks)
        return cross_entropy(again.logits, gold.targets)
