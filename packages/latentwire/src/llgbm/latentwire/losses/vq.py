"""What a discrete bottleneck asks of latents: to stay near their codes."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from llgbm.latentwire.bottlenecks.base import NoBottleneck
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


@TERMS.register("vq")
@dataclass(frozen=True)
class VQTermConfig:
    """What the compressor's bottleneck asks to have added: the commitment loss.

    Args:
        weight: of the term.
        schedule: of the weight.
    """

    weight: float = 0.25
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def build(self, compressor: Compressor, reader: Reader) -> VQTerm:
        """Build it.

        Raises:
            ConfigError: the compressor has no bottleneck.
        """
        if isinstance(compressor.bottleneck, NoBottleneck):
            raise ConfigError("vq: expected a compressor with a discrete bottleneck, got none")
        return VQTerm()


class VQTerm(Term):
    """The bottleneck's `last_loss`, as it is.

    Source: van den Oord et al. 2017, equation 3.
    """

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`.

        Raises:
            ConfigError: in training, a bottleneck that asks for nothing, such as FSQ.
        """
        compressor = step.compressor
        loss = compressor.bottleneck.last_loss
        if compressor.training and torch.is_grad_enabled() and not loss.requires_grad:
            raise ConfigError(
                "vq: expected a bottleneck that has a loss, got "
                f"{compressor.config.bottleneck.name!r}, which has none: leave this term out"
            )
        return loss.float()
