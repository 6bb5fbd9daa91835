"""Terms on the latent of a VAE."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llgbm.generators.losses.step import Step
from llgbm.generators.losses.terms import Runs

if TYPE_CHECKING:
    from llgbm.generators.vae.latent import Latent


def latent_of(step: Step) -> Latent:
    """Return the latent of a step's output.

    Raises:
        ValueError: the generator has none.
    """
    latent: Latent | None = getattr(step.output, "latent", None)
    if latent is None:
        raise ValueError("latent terms: expected the output of a VAE, got one without a latent")
    return latent


@dataclass(frozen=True)
class Rate:
    """Nats that the latent costs under the prior, KL(q || p) (seed 000, L_KL), free bits aside.

    Args:
        free_bits: nats that each number of the latent may cost for nothing, on average over the
            batch (Kingma et al. 2016). Priors that do not tell numbers apart get as much in all.
    """

    free_bits: float = 0.0
    name: str = field(default="kl", init=False)
    runs: Runs = field(default="nothing", init=False)

    def __call__(self, step: Step) -> Tensor:
        """Return the mean over adapters of the sum over numbers; 0 for a point posterior."""
        latent = latent_of(step)
        if latent.rates is None:
            return 0 * latent.z.sum()
        free = self.free_bits * latent.z.shape[1] / latent.rates.shape[1]
        return latent.rates.mean(0).clamp_min(free).sum()


@dataclass(frozen=True)
class BottleneckLosses:
    """What the bottleneck itself wants small: commitment, and how well conditions tell codes."""

    name: str = field(default="bottleneck", init=False)
    runs: Runs = field(default="nothing", init=False)

    def __call__(self, step: Step) -> Tensor:
        """Return their sum; 0 where there are none."""
        latent = latent_of(step)
        return torch.stack([0 * latent.z.sum(), *latent.losses.values()]).sum()
