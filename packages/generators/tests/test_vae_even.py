"""Ways through a latent space in steps of equal length in updates."""

import pytest
import torch

from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses.weights import delta_w_inner
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.even import even_places
from llgbm.generators.vae.generator import LoRAGeneratorVAE


def scaled(weights: LoRAWeights, factors) -> LoRAWeights:
    """One adapter with B at every factor: a way whose length is known."""
    many = weights.select([0] * len(factors))
    stretch = torch.tensor(factors).reshape(-1, 1, 1)
    lora_B = {path: stretch * value for path, value in many.lora_B.items()}
    return LoRAWeights(many.spec, many.lora_A, lora_B)


def test_places_are_those_where_a_share_of_the_length_lies_behind(tiny_spec, make_teachers) -> None:
    one = make_teachers(tiny_spec, 1)
    way = scaled(one, [0.0, 0.1, 0.2, 1.0])  # nearly all happens in its last third
    places = even_places(way, [0, 1 / 3, 2 / 3, 1], [0.0, 0.1, 0.5, 1.0])
    expected = [0.0, 1 / 3, 2 / 3 + (0.5 - 0.2) / 0.8 / 3, 1.0]
    torch.testing.assert_close(places, torch.tensor(expected).double(), atol=1e-4, rtol=0)


def test_an_even_way_keeps_its_places_and_one_without_length_its_shares(
    tiny_spec, make_teachers
) -> None:
    one = make_teachers(tiny_spec, 1)
    shares = [0.0, 0.3, 0.5, 1.0]
    even = even_places(scaled(one, [0.0, 0.25, 0.5, 0.75, 1.0]), [0, 0.25, 0.5, 0.75, 1], shares)
    assert even.tolist() == pytest.approx(shares, abs=1e-4)
    assert even_places(scaled(one, [1.0, 1.0, 1.0]), [0, 0.5, 1], shares).tolist() == shares


def test_a_vaes_even_way_has_steps_of_like_length(tiny_spec, make_teachers) -> None:
    torch.manual_seed(0)
    teachers = make_teachers(tiny_spec, 4)
    vae = LoRAGeneratorVAE(VAEConfig(latent_dim=8), tiny_spec, (32,)).eval()
    vae.fit_scales(teachers, torch.randn(4, 32))
    with torch.no_grad():
        for parameter in vae.parameters():  # untrained heads write one and the same adapter
            parameter += 0.1 * torch.randn_like(parameter)
    start, end = (6 * torch.randn(vae.layout.size) for _ in range(2))
    shares = [0.0, 0.25, 0.5, 0.75, 1.0]

    def steps(way: LoRAWeights) -> torch.Tensor:
        first, second = way.select([0, 1, 2, 3]), way.select([1, 2, 3, 4])
        inner = [delta_w_inner(a, b).sum(1) for a, b in
                 ((first, first), (second, second), (first, second))]  # fmt: skip
        return (inner[0] + inner[1] - 2 * inner[2]).clamp_min(0).sqrt()

    plain, even = (vae.interpolate(start, end, shares, even=even) for even in (False, True))
    for place in (0, 4):
        for path in plain.lora_B:
            torch.testing.assert_close(even.lora_B[path][place], plain.lora_B[path][place])
    uneven = [float(steps(way).max() / steps(way).mean()) for way in (plain, even)]
    assert uneven[1] < min(1.2, uneven[0])
