"""Is a latent used? Active units, mutual information, codes in use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.generators.vae.priors.base import gaussian_log_density

# A number of the latent is active where its centre varies by more than this over adapters
# (Burda et al. 2016).
ACTIVE_VARIANCE = 0.01


def active_units(mu: Tensor) -> float:
    """Share of the numbers of the latent whose centres [n, size] vary over adapters.

    Raises:
        ValueError: fewer than two adapters, which have no variance.
    """
    if len(mu) < 2:
        raise ValueError(f"active units: expected at least 2 adapters, got {len(mu)}")
    return float((mu.var(0) > ACTIVE_VARIANCE).float().mean())


def mutual_information(mu: Tensor, logvar: Tensor, generator: torch.Generator) -> float:
    """Nats that z tells of which of n adapters it is: KL(q(z|x) || q(z)), by one draw of each.

    q(z) is the mixture of all n posteriors, so that log n is the most there is to tell (Hoffman &
    Johnson 2016).

    Args:
        mu, logvar: [n, size].
        generator: on the CPU.
    """
    noise = torch.randn(mu.shape, generator=generator).to(mu)
    z = mu + (0.5 * logvar).exp() * noise
    own = gaussian_log_density(z, mu, logvar).sum(1)
    every = gaussian_log_density(z[:, None], mu, logvar).sum(2)
    mixture = every.logsumexp(1) - torch.log(torch.tensor(float(len(mu))))
    return float((own - mixture).mean())


@dataclass(frozen=True)
class CodebookUse:
    """How a codebook is used.

    Attributes:
        used: share of its entries that some token has.
        perplexity: exp of the entropy of the entries.
    """

    used: float
    perplexity: float


def codebook_use(codes: Tensor, size: int) -> CodebookUse:
    """Return the use of a codebook of `size` entries by codes of any shape, int64.

    Raises:
        ValueError: no codes, or codes out of range.
    """
    if not codes.numel():
        raise ValueError("codes: expected at least one, got none")
    if not 0 <= int(codes.min()) <= int(codes.max()) < size:
        raise ValueError(
            f"codes: expected from 0 to {size - 1}, got from {int(codes.min())} to "
            f"{int(codes.max())}"
        )
    counts = torch.bincount(codes.flatten(), minlength=size).float()
    shares = counts / counts.sum()
    entropy = -(shares * shares.clamp_min(1e-12).log()).sum()
    return CodebookUse(float((counts > 0).float().mean()), float(entropy.exp()))
