"""The term that makes ways through a latent straight in updates."""

from pathlib import Path

import pytest
import torch

from llgbm.deltas.errors import SettingError
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses.halfway import halfway_error, neighbours
from llgbm.generators.losses.step import Step
from llgbm.generators.vae.augment import interpolated
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.generator import LoRAGeneratorVAE, VAEOutput
from llgbm.generators.vae.latent import Latent
from llgbm.generators.vae.loss import VAELoRALoss
from llgbm.generators.vae.train_config import VAETrainConfig


def update(weights: LoRAWeights, path: str) -> torch.Tensor:
    return weights.spec.scaling * weights.lora_B[path] @ weights.lora_A[path]


def test_it_is_the_naive_distance_from_the_mean_of_both_ends(tiny_spec, make_teachers) -> None:
    ends, middle = make_teachers(tiny_spec, 3), make_teachers(tiny_spec, 3, seed=5)
    expected = []
    for path in tiny_spec.paths:
        whole = update(ends, path)
        mean = (whole + whole[[1, 2, 0]]) / 2
        error = (update(middle, path) - mean).square().sum((1, 2)).mean()
        expected.append(error / whole.square().sum((1, 2)).mean())
    found = halfway_error(middle, ends)
    torch.testing.assert_close(found, torch.stack(expected).mean(), rtol=1e-5, atol=0)


def test_a_straight_way_costs_nothing(tiny_spec, make_teachers) -> None:
    # Teachers that share A: the mean of two updates has rank r, and `interpolated` is exact.
    one = make_teachers(tiny_spec, 1)
    factors = torch.tensor([1.0, 2.0, -1.0]).reshape(-1, 1, 1)
    lora_B = {path: factors * value for path, value in one.select([0] * 3).lora_B.items()}
    ends = LoRAWeights(tiny_spec, one.select([0] * 3).lora_A, lora_B)
    middle = interpolated(ends, [(0, 1), (1, 2), (2, 0)], [0.5] * 3)
    assert float(halfway_error(middle, ends)) < 1e-6
    assert float(halfway_error(ends, ends)) > 0.1


def test_only_the_middle_is_drawn(tiny_spec, make_teachers) -> None:
    ends, middle = make_teachers(tiny_spec, 2), make_teachers(tiny_spec, 2, seed=5)
    for weights in (ends, middle):
        for factor in weights.lora_B.values():
            factor.requires_grad_()
    halfway_error(middle, ends).backward()
    assert all(factor.grad is None for factor in ends.lora_B.values())
    assert all(factor.grad.abs().sum() > 0 for factor in middle.lora_B.values())


def test_another_number_of_adapters_is_refused(tiny_spec, make_teachers) -> None:
    with pytest.raises(ValueError, match="halfway: expected n=2 adapters, got 3"):
        halfway_error(make_teachers(tiny_spec, 3), make_teachers(tiny_spec, 2))


def test_training_with_it_straightens_the_way(tiny_spec, make_teachers) -> None:
    teachers = make_teachers(tiny_spec, 4)

    def trained(weight: float) -> float:
        vae = LoRAGeneratorVAE(VAEConfig(latent_dim=8, delta_hidden=16), tiny_spec, (4,), seed=1)
        vae.fit_scales(teachers, torch.randn(4, 4, generator=torch.Generator().manual_seed(0)))
        loss = VAELoRALoss(beta_max=0.0, lambda_delta=0.0, lambda_halfway=weight)
        optimizer = torch.optim.AdamW(vae.decoder.parameters(), lr=3e-3)
        ends = torch.randn(4, vae.layout.size, generator=torch.Generator().manual_seed(2))
        for step in range(60):
            output = _output(vae, ends)
            value = loss(Step(step, output, teachers, torch.zeros(4, 4))).total
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        output = _output(vae, ends)
        return float(halfway_error(output.halfway, output.weights).detach())

    assert trained(1.0) < 0.5 * trained(0.0)


def _output(vae, z):
    """What a VAE says whose posterior is a point."""
    middle = vae.generate_from_z((z + z[neighbours(len(z))]) / 2)
    condition = torch.zeros(len(z), 1)
    return VAEOutput(vae.generate_from_z(z), vae.delta_decoder(z), condition, Latent(z, z), middle)


def test_an_output_without_it_is_refused(tiny_spec, make_teachers) -> None:
    vae = LoRAGeneratorVAE(VAEConfig(latent_dim=8, delta_hidden=16), tiny_spec, (4,))
    teachers = make_teachers(tiny_spec, 2)
    output = _output(vae, torch.randn(2, vae.layout.size))
    lacking = type(output)(output.weights, output.delta, output.condition, output.latent)
    with pytest.raises(ValueError, match="halfway: expected adapters half way"):
        VAELoRALoss(lambda_halfway=1.0)(Step(0, lacking, teachers, torch.zeros(2, 4)))


def test_a_batch_of_one_has_nothing_between() -> None:
    with pytest.raises(SettingError, match="lambda_halfway: expected a batch_size of at least 2"):
        VAETrainConfig(Path("x"), batch_size=1, loss=VAELoRALoss(lambda_halfway=1.0))
