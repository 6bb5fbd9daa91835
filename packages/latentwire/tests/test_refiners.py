import pytest
import torch

from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.encoders.pretrained import PretrainedEncoderConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, slot_mask
from llgbm.latentwire.refiners import PARTS, REFINERS
from llgbm.latentwire.refiners.base import NoRefinerConfig
from llgbm.latentwire.refiners.transformer import TransformerRefinerConfig


@pytest.fixture
def latents() -> Latents:
    """Slots of three texts, as small as embeddings are."""
    mask = slot_mask(torch.tensor([5, 3, 1]))
    values = 0.1 * torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    return Latents(values * mask[..., None], mask)


def built(**settings):
    torch.manual_seed(0)
    return TransformerRefinerConfig(**settings).build(32)


def test_every_refiner_is_registered() -> None:
    assert set(REFINERS.values()) == set(PARTS)
    assert set(REFINERS) == {"none", "transformer"}


def test_none_leaves_latents_alone(latents) -> None:
    assert NoRefinerConfig().build(32)(latents) is latents


def test_a_refiner_starts_by_adding_the_share_that_its_scale_says(latents) -> None:
    refined = built(scale=0.1)(latents)
    added = (refined.values - latents.values)[latents.mask].norm()
    assert 0.03 < added / latents.values.norm() < 0.2
    assert torch.equal(refined.mask, latents.mask)


def test_the_share_is_the_same_for_latents_of_any_size(latents) -> None:
    refiner = built()
    large = Latents(100 * latents.values, latents.mask)
    # Float32 rounding of numbers up to 40.
    torch.testing.assert_close(
        refiner(large).values, 100 * refiner(latents).values, atol=1e-4, rtol=1e-5
    )


def test_masked_slots_do_not_matter_and_stay_zero(latents) -> None:
    refiner = built()
    refined = refiner(latents)
    filled = latents.values.masked_fill(~latents.mask[..., None], 7.0)
    again = refiner(Latents(filled, latents.mask))
    assert torch.equal(again.values, refined.values)
    assert not refined.values[~latents.mask].any()


def test_a_text_does_not_depend_on_its_batch(latents) -> None:
    refiner = built()
    refined = refiner(latents)
    for index in range(3):
        row = latents.row(index)[None]
        alone = refiner(Latents(row, torch.ones(row.shape[:2], dtype=torch.bool)))
        # Float32 sums in another order.
        torch.testing.assert_close(alone.values[0], refined.row(index), atol=1e-6, rtol=1e-5)


def test_slots_look_at_each_other_and_at_their_order(latents) -> None:
    refiner = built()
    refined = refiner(latents)
    values = latents.values.clone()
    values[0, 4] *= -1
    other = refiner(Latents(values, latents.mask))
    assert not torch.equal(other.values[0, 0], refined.values[0, 0])
    assert torch.equal(other.values[1], refined.values[1])
    swapped = latents.values.clone()
    swapped[0, [1, 4]] = swapped[0, [4, 1]]
    turned = refiner(Latents(swapped, latents.mask)).values[0, 0]
    assert (turned - refined.values[0, 0]).abs().max() > 1e-5


def test_a_gradient_reaches_every_parameter(latents) -> None:
    refiner = built()
    wanted = torch.randn(latents.values.shape, generator=torch.Generator().manual_seed(1))
    (refiner(latents).values * wanted).sum().backward()
    silent = [name for name, each in refiner.named_parameters() if not each.grad.abs().sum() > 0]
    assert silent == []


def test_a_compressor_refines_what_its_pooler_says(tiny_reader, examples) -> None:
    encoder = PretrainedEncoderConfig(tuning="frozen")
    texts = [example.context for example in examples]
    plain = Compressor(CompressorConfig(encoder=encoder), tiny_reader)
    config = CompressorConfig(encoder=encoder, refiner=TransformerRefinerConfig())
    compressor = Compressor(config, tiny_reader)
    pooled = plain.encode(texts)
    expected = compressor.refiner(pooled)
    assert torch.equal(compressor.encode(texts).values, expected.values)
    assert not torch.equal(expected.values, pooled.values)
    assert any(name.startswith("refiner.") for name in compressor.trained())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"heads": 5}, "refiner.heads: expected a divisor of 32, got 5"),
        ({"layers": 0}, "layers of at least 1"),
        ({"scale": 0.0}, "scale not 0"),
    ],
)
def test_settings_that_cannot_train_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        built(**settings)
