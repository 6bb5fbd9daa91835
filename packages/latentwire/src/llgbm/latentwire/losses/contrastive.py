"""InfoNCE: latents of a text nearer to its own words than to those of others in the batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import masked_mean
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.slot_embeds import require_embeddings, slot_embeds
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


@TERMS.register("contrastive")
@dataclass(frozen=True)
class ContrastiveTermConfig:
    """Mean slot against mean embedding of the context, each to be found among the batch's.

    Args:
        weight: of the term.
        schedule: of the weight.
        temperature: of the cosines.
    """

    weight: float = 0.1
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError(
                f"contrastive.temperature: expected above 0, got {self.temperature:g}"
            )

    def build(self, compressor: Compressor, reader: Reader) -> ContrastiveTerm:
        """Build it.

        Raises:
            ConfigError: the way in reads no embeddings.
        """
        require_embeddings("contrastive", compressor)
        return ContrastiveTerm(self.temperature)


class ContrastiveTerm(Term):
    """Mean of both directions; the same context asked twice is not its own negative.

    Source: van den Oord et al. 2018, equation 4.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`.

        Raises:
            ConfigError: a batch of one.
        """
        rows = len(step.examples)
        if rows < 2:
            raise ConfigError("contrastive: expected a batch of at least 2 texts, got 1")
        ours = normalize(masked_mean(*slot_embeds(step)), dim=-1)
        texts = normalize(masked_mean(*step.context_embeddings), dim=-1)
        numbers: dict[tuple[int, ...], int] = {}
        which = torch.tensor(
            [numbers.setdefault(tuple(ids), len(numbers)) for ids in step.contexts],
            device=ours.device,
        )
        own = torch.arange(rows, device=ours.device)
        repeats = (which[:, None] == which[None, :]) & (own[:, None] != own[None, :])
        near = (ours @ texts.T / self.temperature).masked_fill(repeats, -torch.inf)
        self.logged = {
            "accuracy": float((near.argmax(-1) == own).float().mean()),
            "negatives": float(rows - 1 - repeats.float().sum() / rows),
        }
        return (cross_entropy(near, own) + cross_entropy(near.T, own)) / 2
