"""Loss of a sideways VAE: metrics first, then blocks, divergence and dynamics (seed 003)."""

from __future__ import annotations

import torch
from torch import Tensor

from llgbm.generators.sideways.model.config import SidewaysLossWeights
from llgbm.generators.sideways.model.sideways_vae import SidewaysVAE
from llgbm.generators.sideways.model.table import CheckpointTable


def sideways_terms(
    vae: SidewaysVAE,
    table: CheckpointTable,
    member_weights: Tensor,
    noise: float,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """Terms of a batch of whole runs, unweighted.

    Args:
        vae: being trained.
        table: the batch.
        member_weights: [members, n], how much every member of the ensemble sees of a checkpoint.
        noise: on what the encoder reads.
        generator: of noise and of latents.
    """
    features = vae.features(table.coefficients, table.statistics)
    drawn = torch.randn(features.shape, generator=generator)
    mu, logvar = vae.encoder(features + noise * drawn)
    z = mu + (logvar / 2).exp() * torch.randn(mu.shape, generator=generator)
    wanted = vae.metric_scale(table.metrics)
    errors = (vae.predictor.each(z) - wanted).square().mean(-1)
    blocks = vae.coefficient_scale(table.coefficients)
    divergence = -0.5 * (1 + logvar - mu.square() - logvar.exp())
    return {
        "metric": (errors * member_weights).sum() / member_weights.sum().clamp_min(1e-6),
        "recon": (vae.decoder(z) - blocks).square().mean(),
        "kl": divergence.mean(),
        "dynamics": _dynamics(vae, table, mu, generator),
    }


def weighted(terms: dict[str, Tensor], weights: SidewaysLossWeights) -> Tensor:
    """The loss."""
    return (
        terms["metric"]
        + weights.recon * terms["recon"]
        + weights.beta * terms["kl"]
        + weights.dynamics * terms["dynamics"]
    )


def _dynamics(
    vae: SidewaysVAE, table: CheckpointTable, mu: Tensor, generator: torch.Generator
) -> Tensor:
    """Squared error of latents and metrics along runs, from a checkpoint drawn in each.

    Runs with the same steps are moved together.
    """
    alike: dict[tuple[float, ...], list[list[int]]] = {}
    for rows in table.by_run().values():
        alike.setdefault(tuple(table.time[rows].tolist()), []).append(rows)
    wanted = vae.metric_scale(table.metrics)
    numbers = vae.hyperparameter_scale(table.hyperparameters)
    errors: list[Tensor] = []
    for times, runs in alike.items():
        if len(times) < 2:
            continue
        start = int(torch.randint(len(times) - 1, (), generator=generator))
        left = torch.tensor(runs)[:, start:]
        begin, later = left[:, 0], left[:, 1:]
        moved = vae.dynamics.roll_out(mu[begin], numbers[begin], times[start:])[:, 1:]
        latents = (moved - mu[later].detach()).square().mean((1, 2))
        metrics = (vae.predictor(moved)[0] - wanted[later]).square().mean((1, 2))
        errors += [latents, metrics]
    return torch.cat(errors).mean() if errors else mu.new_zeros(())
