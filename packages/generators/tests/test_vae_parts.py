"""Priors are densities, rates are KL divergences, and readings say what a latent holds."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from llgbm.deltas.errors import SettingError
from llgbm.generators.losses.schedules import Cyclical
from llgbm.generators.vae.bottlenecks.finite_scalar import (
    FiniteScalarBottleneck,
    FiniteScalarConfig,
)
from llgbm.generators.vae.bottlenecks.vector_quantized import (
    VectorQuantizedBottleneck,
    VectorQuantizedConfig,
)
from llgbm.generators.vae.encoders import Features
from llgbm.generators.vae.latent import LatentLayout
from llgbm.generators.vae.priors.base import gaussian_kl
from llgbm.generators.vae.priors.flow import FlowPriorConfig
from llgbm.generators.vae.priors.mixture import MixturePriorConfig
from llgbm.generators.vae.priors.normal import NormalPrior, NormalPriorConfig
from llgbm.generators.vae.priors.registry import make_prior
from llgbm.generators.vae.priors.vamp import VampPriorConfig
from llgbm.generators.vae.readings import active_units, codebook_use, mutual_information


def posterior(features: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """Two numbers of the features, as a bottleneck's heads would give."""
    return features.whole[:, :2], 0.1 * features.whole[:, 2:4]


PRIORS = {
    "normal": NormalPriorConfig(hidden=8),
    "fixed": NormalPriorConfig(conditional=False),
    "mixture": MixturePriorConfig(3),
    "vamp": VampPriorConfig(3),
    "flow": FlowPriorConfig(2, 8),
    "free_mixture": MixturePriorConfig(3, conditional=False),
    "free_flow": FlowPriorConfig(2, 8, conditional=False),
}


@pytest.fixture(params=sorted(PRIORS))
def prior(request):
    torch.manual_seed(0)
    return make_prior(PRIORS[request.param], 2, 4, 6, 3, posterior).double()


def test_a_prior_integrates_to_one(prior):
    axis = torch.linspace(-9, 9, 241, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
    condition = torch.randn(1, 4, generator=torch.Generator().manual_seed(1)).double()
    with torch.no_grad():
        density = prior.log_density(grid, condition.expand(len(grid), -1)).exp()
    assert float(density.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1.0, abs=0.02)


def test_samples_have_the_density_of_the_prior(prior):
    condition = torch.randn(1, 4, generator=torch.Generator().manual_seed(1)).double()
    many = condition.expand(20000, -1)
    with torch.no_grad():
        drawn = prior.sample(many, torch.Generator().manual_seed(0))
        entropy = -float(prior.log_density(drawn, many).mean())
        axis = torch.linspace(-9, 9, 241, dtype=torch.float64)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, 1)
        log = prior.log_density(grid, condition.expand(len(grid), -1))
        expected = -float((log.exp() * log).sum() * (axis[1] - axis[0]) ** 2)
    assert entropy == pytest.approx(expected, abs=0.05)


def test_the_rate_of_a_normal_prior_is_the_kl_divergence():
    generator = torch.Generator().manual_seed(0)
    mu, logvar, mean, log_variance = (
        torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(4)
    )
    expected = kl_divergence(
        Normal(mu, (0.5 * logvar).exp()), Normal(mean, (0.5 * log_variance).exp())
    )
    torch.testing.assert_close(gaussian_kl(mu, logvar, mean, log_variance), expected)


def test_the_estimated_rate_agrees_with_the_exact_one():
    prior = NormalPrior(NormalPriorConfig(conditional=False), 2, 4)
    mu, logvar = torch.tensor([[0.7, -1.2]]), torch.tensor([[-1.0, 0.3]])
    many, condition = mu.expand(40000, -1), torch.zeros(40000, 4)
    noise = torch.randn(40000, 2, generator=torch.Generator().manual_seed(0))
    z = many + (0.5 * logvar).exp() * noise
    estimated = super(NormalPrior, prior).rates(many, logvar.expand(40000, -1), z, condition)
    exact = prior.rates(mu, logvar, mu, torch.zeros(1, 4)).sum()
    assert float(estimated.mean()) == pytest.approx(float(exact), abs=0.03)


def test_the_residual_part_of_a_split_latent_reads_no_condition():
    prior = NormalPrior(NormalPriorConfig(hidden=8, task_dim=2), 5, 4)
    torch.nn.init.normal_(prior.outer.weight)
    mean, log_variance = prior.moments(torch.randn(3, 4))
    assert bool(mean[:, :2].any())
    assert not bool(mean[:, 2:].any())
    assert not bool(log_variance[:, 2:].any())


def test_layout_splits_what_it_joins():
    layout = LatentLayout(3, layers=4, layer_dim=2)
    whole, by_layer = torch.randn(5, 3), torch.randn(4, 5, 2)
    z = layout.join(whole, by_layer)
    assert z.shape == (5, 11)
    parts = layout.split(z)
    assert torch.equal(parts[0], whole)
    assert torch.equal(parts[1], by_layer)
    assert LatentLayout(3, 4).split(whole) == (whole, None)


def test_readings_tell_a_used_latent_from_a_collapsed_one():
    mu = torch.zeros(16, 4)
    mu[:, 0] = torch.arange(16)
    assert active_units(mu) == 0.25
    narrow, wide = torch.full((16, 4), -8.0), torch.full((16, 4), 8.0)
    generator = torch.Generator().manual_seed(0)
    assert mutual_information(mu, narrow, generator) == pytest.approx(math.log(16), abs=1e-3)
    assert abs(mutual_information(mu, wide, generator)) < 0.2
    with pytest.raises(ValueError, match="expected at least 2 adapters, got 1"):
        active_units(mu[:1])


def test_codebook_use_counts_entries_and_their_evenness():
    use = codebook_use(torch.tensor([[0, 1], [1, 0]]), 4)
    assert use.used == 0.5
    assert use.perplexity == pytest.approx(2.0)
    with pytest.raises(ValueError, match="expected from 0 to 3, got from 0 to 4"):
        codebook_use(torch.tensor([0, 4]), 4)
    with pytest.raises(ValueError, match="expected at least one, got none"):
        codebook_use(torch.tensor([], dtype=torch.int64), 4)


def test_a_cyclical_schedule_rises_rests_and_begins_again():
    cycle = Cyclical(period=8, rise=0.5)
    assert [cycle.at(step) for step in (0, 2, 4, 7, 8, 10)] == [0.0, 0.5, 1.0, 1.0, 0.0, 0.5]
    with pytest.raises(SettingError, match="first rise to end within the 3 steps"):
        cycle.check(3)
    with pytest.raises(SettingError, match="rise: expected in"):
        Cyclical(rise=0.0)


@pytest.fixture(params=["vq", "fsq"])
def quantized(request):
    """Return a discrete bottleneck of two tokens with entries apart from each other."""
    layout = LatentLayout(8)
    if request.param == "fsq":
        return FiniteScalarBottleneck(FiniteScalarConfig((5, 5, 5, 5)), layout, 16, 12)
    config = VectorQuantizedConfig(codebook_size=7, code_dim=4, levels=1, warmup_steps=0)
    bottleneck = VectorQuantizedBottleneck(config, layout, 16, 12).train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        bottleneck.quantize(torch.randn(16, 2, 4, generator=generator))
    return bottleneck.eval()


def expecting(bottleneck, shares: dict[int, float]):
    """Make its classifier give these shares to codes of every place, whatever the condition."""
    with torch.no_grad():
        bottleneck.classify.weight.zero_()
        bias = torch.full((bottleneck.codebook_size,), -1e4)
        for code, share in shares.items():
            bias[code] = math.log(share)
        bottleneck.classify.bias.copy_(bias.repeat(bottleneck.tokens * bottleneck.places))
    return bottleneck.centre(torch.zeros(1, 12), None)


@torch.no_grad()
def test_tokens_are_sums_of_the_tables_entries(quantized) -> None:
    codes = torch.tensor([[1, 4]])
    token = quantized.tables()[0, codes[0]]
    torch.testing.assert_close(quantized.decode_codes(codes).view(2, 4), token)


def test_a_condition_that_tells_the_code_is_written_by_it(quantized) -> None:
    codes = torch.tensor([[3, 3]])
    torch.testing.assert_close(expecting(quantized, {3: 1.0}), quantized.decode_codes(codes))


def test_between_two_codes_the_nearest_to_their_mean_is_written() -> None:
    grid = FiniteScalarBottleneck(FiniteScalarConfig((5, 5, 5, 5)), LatentLayout(8), 16, 12)
    # The first number of a token is the code's last digit in base 5.
    found = expecting(grid, {0: 0.5, 2: 0.5})
    torch.testing.assert_close(found, grid.decode_codes(torch.tensor([[1, 1]])))
