"""Reconstruction of the context's embeddings from latents: what is not in them cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, mse_loss

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig

MSE_WEIGHT = 0.1


@TERMS.register("reconstruction")
@dataclass(frozen=True)
class ReconstructionTermConfig:
    """1 - cosine + 0.1 MSE between what a head makes of slots and the context's embeddings.

    Args:
        weight: of the term.
        schedule: of the weight.
        hidden: width of the head's hidden layer; 0 for a linear head.
        places: vectors that the head makes of a slot, side by side; these are then stretched
            over the context's positions. 1 gives every position of a segment nearly the same.
    """

    weight: float = 0.5
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    hidden: int = 0
    places: int = 4

    def __post_init__(self) -> None:
        if self.hidden < 0 or self.places < 1:
            raise ConfigError(
                "reconstruction: expected no negative hidden and at least 1 place, "
                f"got {self.hidden}, {self.places}"
            )

    def build(self, compressor: Compressor, reader: Reader) -> ReconstructionTerm:
        """Build it."""
        return ReconstructionTerm(self, compressor.width, reader.width)


class ReconstructionTerm(Term):
    """A head on every slot, its vectors stretched over the text's positions, in float32.

    Source: seed 004, phase 1a: cosine + 0.1 MSE, since MSE alone let the cosine fall.
    """

    def __init__(self, config: ReconstructionTermConfig, width: int, reader_width: int) -> None:
        super().__init__()
        self.config = config
        wide = config.places * reader_width
        self.head: nn.Module = nn.Linear(width, wide)
        if config.hidden:
            self.head = nn.Sequential(
                nn.Linear(width, config.hidden), nn.GELU(), nn.Linear(config.hidden, wide)
            )

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        latents, places = step.whole_latents, self.config.places
        wanted, real = step.context_embeddings
        made = self.head(latents.values.float())
        made = made.unflatten(-1, (places, -1)).flatten(1, 2)
        weights = stretching(real.sum(1), latents.counts * places, made.shape[1])
        found, wanted = (weights @ made)[real], wanted[real].float()
        cosine = cosine_similarity(found, wanted, dim=-1).mean()
        error = mse_loss(found, wanted)
        self.logged = {"cosine": float(cosine.detach()), "mse": float(error.detach())}
        return 1 - cosine + MSE_WEIGHT * error


def stretching(lengths: Tensor, counts: Tensor, width: int) -> Tensor:
    """Weights that stretch counts[i] vectors evenly over lengths[i] positions, linearly between.

    Args:
        lengths: [b] int64, positions of every text.
        counts: [b] int64, vectors of every text, at least 1.
        width: vectors of a padded row, at least max(counts).

    Returns:
        [b, max(lengths), width] float32; rows sum to 1 and touch real vectors only.
    """
    places = torch.arange(int(lengths.max()), device=lengths.device)
    at = (places[None, :] + 0.5) * counts[:, None] / lengths[:, None].clamp(min=1) - 0.5
    at = torch.minimum(at.clamp(min=0), counts[:, None] - 1.0)
    grid = torch.arange(width, device=lengths.device)
    return (1 - (at[..., None] - grid).abs()).clamp(min=0)
