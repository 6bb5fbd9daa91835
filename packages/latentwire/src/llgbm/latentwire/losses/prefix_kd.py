"""Distillation of distributions: latents should lead to what the text leads to."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from torch.utils.checkpoint import checkpoint

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.losses.teacher import taught
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


@TERMS.register("prefix_kd")
@dataclass(frozen=True)
class PrefixKDTermConfig:
    """KL divergence from the bare reader's distribution after the text.

    Args:
        weight: of the term.
        schedule: of the weight.
        temperature: both distributions are softened by it; the term is multiplied by its square,
            so that gradients keep their size.
        tokens: only so many first tokens of every answer; 0 for all.
        chunk: tokens whose distributions are held at a time; halved, with a warning, when the
            device has no memory for them.
    """

    weight: float = 0.5
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    temperature: float = 1.0
    tokens: int = 0
    chunk: int = 64

    def __post_init__(self) -> None:
        if not self.temperature > 0 or self.tokens < 0 or self.chunk < 1:
            raise ConfigError(
                "prefix_kd: expected a temperature above 0, no negative tokens and a chunk of at "
                f"least 1, got {self.temperature:g}, {self.tokens}, {self.chunk}"
            )

    def build(self, compressor: Compressor, reader: Reader) -> PrefixKDTerm:
        """Build it."""
        return PrefixKDTerm(self)


class PrefixKDTerm(Term):
    """Mean over answer tokens of KL(text || latents), in nats, times the squared temperature."""

    def __init__(self, config: PrefixKDTermConfig) -> None:
        super().__init__()
        self.config = config
        self.chunk = config.chunk

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        student = step.scored
        teacher, kept = taught(step, student)
        if self.config.tokens:
            kept = kept & (student.step < self.config.tokens)
        self.logged = {"taught": float(kept.float().mean()), "chunk": float(self.chunk)}
        if not kept.any():
            return student.logits.sum() * 0
        ours, theirs = student.logits, teacher.logits
        if not kept.all():
            ours, theirs = ours[kept], theirs[kept]
        while True:
            try:
                return mean_divergence(ours, theirs, self.config.temperature, self.chunk)
            except torch.OutOfMemoryError:
                if self.chunk == 1:
                    raise
                self.chunk //= 2
                self.logged["chunk"] = float(self.chunk)
                warnings.warn(
                    f"prefix_kd: out of memory, going on with a chunk of {self.chunk}", stacklevel=2
                )


def mean_divergence(student: Tensor, teacher: Tensor, temperature: float, chunk: int) -> Tensor:
    """Mean KL(teacher || student) over positions, with at most `chunk` distributions held.

    What a chunk needs for its gradient is computed again on the way back.

    Args:
        student: logits [s, vocabulary] float32.
        teacher: logits [s, vocabulary] float32, no gradient.
        temperature: of both, above 0.
        chunk: positions at a time.

    Returns:
        Scalar, nats times the squared temperature.
    """
    total = student.new_zeros(())
    for ours, theirs in zip(student.split(chunk), teacher.split(chunk), strict=True):
        total = total + checkpoint(_divergence, ours, theirs, temperature, use_reentrant=False)
    return total * temperature**2 / len(student)


def _divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Sum of KL(teacher || student) over positions."""
    ours = (student / temperature).log_softmax(-1)
    theirs = (teacher / temperature).log_softmax(-1)
    return kl_div(ours, theirs, reduction="sum", log_target=True)
