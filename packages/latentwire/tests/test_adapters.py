import pytest
import torch
from torch import Tensor, nn

from llgbm.latentwire.adapters import ADAPTERS, PARTS, Adapter
from llgbm.latentwire.adapters.colour import (
    ColourAdapter,
    ColourAdapterConfig,
    embedding_statistics,
)
from llgbm.latentwire.adapters.film import FiLMAdapterConfig
from llgbm.latentwire.adapters.interlingua import InterlinguaAdapterConfig
from llgbm.latentwire.adapters.residual_mlp import ResidualMLPAdapterConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, slot_mask
from llgbm.latentwire.reader import Reader

NAMES = ["linear", "residual_mlp", "film", "interlingua", "colour"]


def latents(width: int, counts: tuple[int, ...] = (24, 17), seed: int = 0) -> Latents:
    generator = torch.Generator().manual_seed(seed)
    mask = slot_mask(torch.tensor(counts))
    values = torch.randn(len(counts), max(counts), width, generator=generator)
    return Latents(values * mask[..., None], mask)


def built(name: str, width: int, reader: Reader) -> Adapter:
    torch.manual_seed(0)
    adapter: Adapter = ADAPTERS[name]().build(width, reader).eval()
    return adapter


def rms(values: Tensor) -> float:
    return float(values.detach().square().mean().sqrt())


def test_configs_are_registered_under_their_names() -> None:
    assert set(ADAPTERS) == set(NAMES)
    assert {ADAPTERS[name] for name in ADAPTERS} == set(PARTS)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [32, 512])
def test_vectors_start_at_the_size_of_embeddings(
    name: str, width: int, tiny_reader: Reader
) -> None:
    given = latents(width)
    made = built(name, width, tiny_reader)(given)
    assert made.shape == (2, 24, tiny_reader.width)
    assert rms(made[given.mask]) == pytest.approx(tiny_reader.embedding_rms, rel=0.2)


@pytest.mark.parametrize("name", NAMES)
def test_embeddings_in_latents_of_the_readers_width_start_almost_as_they_are(
    name: str, tiny_reader: Reader
) -> None:
    values = tiny_reader.embedding[1000:1048].view(2, 24, -1)
    given = Latents(values, torch.ones(2, 24, dtype=torch.bool))
    made = built(name, tiny_reader.width, tiny_reader)(given)
    assert rms(made) == pytest.approx(tiny_reader.embedding_rms, rel=0.2)
    # This one's projection is its own for every reader, whatever the widths are.
    if name != "interlingua":
        assert rms(made - values) < 0.2 * tiny_reader.embedding_rms


def test_residual_blocks_that_add_nothing_leave_the_linear_map(tiny_reader: Reader) -> None:
    adapter = ResidualMLPAdapterConfig(blocks=3).build(32, tiny_reader)
    given = latents(32)
    plain = adapter.linear(given)
    assert not torch.allclose(adapter(given), plain)
    for block in adapter.blocks:
        nn.init.zeros_(block.fall.weight)
    torch.testing.assert_close(adapter(given), plain)


def test_film_without_modulation_is_linear(tiny_reader: Reader) -> None:
    adapter = FiLMAdapterConfig().build(32, tiny_reader)
    first, second = latents(32, seed=1), latents(32, seed=2)
    both = Latents(first.values + 3 * second.values, first.mask)

    def apart() -> float:
        return rms(adapter(both) - adapter(first) - 3 * adapter(second))

    assert apart() > 1e-3
    nn.init.zeros_(adapter.modulation.weight)
    assert apart() < 1e-6
    torch.testing.assert_close(adapter(first), adapter.linear(first))


def test_film_modulates_by_the_mean_over_real_slots(tiny_reader: Reader) -> None:
    adapter = built("film", 32, tiny_reader)
    given = latents(32, (4, 2))
    made = adapter(given)
    junk = given.values.clone()
    junk[1, 2:] = 100.0
    torch.testing.assert_close(adapter(Latents(junk, given.mask))[1, :2], made[1, :2])
    other = given.values.clone()
    other[0, 3] = -other[0, 3]
    moved = adapter(Latents(other, given.mask))
    assert not torch.allclose(moved[0, 0], made[0, 0])
    assert torch.allclose(moved[1], made[1])


def test_interlingua_tells_equal_latents_in_other_slots_apart(tiny_reader: Reader) -> None:
    adapter = built("interlingua", 512, tiny_reader)
    one = torch.randn(1, 1, 512, generator=torch.Generator().manual_seed(0))
    made = adapter(Latents(one.expand(1, 3, 512), torch.ones(1, 3, dtype=torch.bool))).detach()
    assert float((made[0, 0] - made[0, 1]).abs().max()) > 1e-4


def test_interlingua_gives_the_readers_size_whatever_the_shared_size(tiny_reader: Reader) -> None:
    adapter = built("interlingua", 512, tiny_reader)
    given = latents(512)
    torch.testing.assert_close(
        adapter(Latents(30 * given.values, given.mask)), adapter(given), atol=1e-5, rtol=1e-3
    )


def test_interlingua_refuses_slots_beyond_its_positions(tiny_reader: Reader) -> None:
    adapter = InterlinguaAdapterConfig(slots=16).build(32, tiny_reader)
    assert adapter(latents(32, (16,))).shape == (1, 16, 64)
    with pytest.raises(ConfigError, match="adapter.slots: expected at least 17, got 16"):
        adapter(latents(32, (17,)))


def coloured(reader: Reader) -> tuple[ColourAdapter, Latents]:
    """An adapter after long training on latents with a mean and a covariance of their own."""
    torch.manual_seed(0)
    adapter = ColourAdapterConfig(rank=8, momentum=0.2).build(32, reader)
    mixing = torch.eye(32) + 0.3 * torch.randn(32, 32)
    mask = slot_mask(torch.full((8,), 64))
    for step in range(80):
        values = latents(32, (64,) * 8, seed=step).values @ mixing + 0.5
        adapter(Latents(values, mask))
    return adapter.eval(), Latents(values, mask)


def test_statistics_are_those_of_all_embeddings(tiny_reader: Reader) -> None:
    mean, basis, deviation, rest = embedding_statistics(tiny_reader, 8)
    table = tiny_reader.embedding.double()
    torch.testing.assert_close(mean, table.mean(0).float())
    covariance = torch.cov(table.T, correction=0).float()
    torch.testing.assert_close(basis.T @ basis, torch.eye(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        basis.T @ covariance @ basis, torch.diag(deviation**2), atol=1e-6, rtol=1e-3
    )
    whole = float(deviation.square().sum() + 56 * rest**2)
    assert whole == pytest.approx(float(covariance.trace()), rel=1e-4)


def test_colour_brings_seen_vectors_to_the_mean_and_covariance_of_embeddings(
    tiny_reader: Reader,
) -> None:
    adapter, given = coloured(tiny_reader)
    made = adapter(given).detach().flatten(0, 1)
    plain = adapter.linear(given.values).detach().flatten(0, 1)

    def seen(vectors: Tensor) -> Tensor:
        coordinates = (vectors - vectors.mean(0)) @ adapter.basis / adapter.deviation
        return coordinates.T @ coordinates / len(vectors)

    # 512 vectors and statistics over about five batches: entries vary by some hundredths.
    assert float((seen(made) - torch.eye(8)).abs().max()) < 0.2
    assert float((seen(plain) - torch.eye(8)).abs().max()) > 0.5
    off = (made.mean(0) - adapter.embedding_mean).norm()
    assert float(off) < 0.2 * float((plain.mean(0) - adapter.embedding_mean).norm())
    assert rms(made) == pytest.approx(tiny_reader.embedding_rms, rel=0.1)


def test_colour_stretches_no_direction_beyond_its_bound(tiny_reader: Reader) -> None:
    torch.manual_seed(0)
    adapter = ColourAdapterConfig(rank=8, momentum=1.0, most=2.0).build(32, tiny_reader)
    given = latents(32)
    faint = Latents(given.values * 1e-3, given.mask)
    before = adapter.eval()(faint)
    adapter.train()(faint)
    after = adapter.eval()(faint)
    size = (before - before[given.mask].mean(0))[given.mask]
    stretched = (after - after[given.mask].mean(0))[given.mask]
    assert rms(stretched) == pytest.approx(2 * rms(size), rel=1e-3)


def test_colour_learns_statistics_in_training_alone_and_from_real_slots(
    tiny_reader: Reader,
) -> None:
    adapter = built("colour", 32, tiny_reader)
    assert isinstance(adapter, ColourAdapter)
    given = latents(32, (4, 2))
    start = {name: each.clone() for name, each in adapter.named_buffers()}
    adapter(given)
    assert all(torch.equal(start[name], each) for name, each in adapter.named_buffers())
    junk = given.values.clone()
    junk[1, 2:] = 100.0
    learned = []
    for values in (given.values, junk):
        other = built("colour", 32, tiny_reader).train()
        other(Latents(values, given.mask))
        learned.append(dict(other.named_buffers()))
    for name, each in learned[0].items():
        assert torch.equal(each, learned[1][name]), name
        moves = name in ("mean", "covariance", "variance")
        assert torch.equal(each, start[name]) != moves, name


def test_colour_in_training_gives_a_text_the_same_in_every_batch(tiny_reader: Reader) -> None:
    given = latents(32)
    both = built("colour", 32, tiny_reader).train()(given)
    alone = built("colour", 32, tiny_reader).train()(Latents(given.values[:1], given.mask[:1]))
    torch.testing.assert_close(both[:1], alone)


def test_colour_trains_through_steps_that_move_its_statistics(tiny_reader: Reader) -> None:
    adapter = built("colour", 32, tiny_reader).train()
    given = latents(32)
    target = adapter(latents(32, seed=1)).detach()
    (adapter(given) - target).square().mean().add(adapter(given).mean()).backward()
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_colour_is_restored_with_its_statistics(tiny_reader: Reader) -> None:
    adapter, given = coloured(tiny_reader)
    fresh = ColourAdapterConfig(rank=8).build(32, tiny_reader).eval()
    assert not torch.allclose(fresh(given), adapter(given))
    fresh.load_state_dict(adapter.state_dict())
    assert torch.equal(fresh(given), adapter(given))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ColourAdapterConfig(rank=64), "adapter.rank: expected 1 to 63, got 64"),
        (ColourAdapterConfig(momentum=0.0), "expected a momentum above 0"),
        (ColourAdapterConfig(most=0.5), "`most` of at least 1, got 0.01, 0.5"),
        (FiLMAdapterConfig(hidden=0), "adapter.hidden: expected at least 1, got 0"),
        (ResidualMLPAdapterConfig(blocks=0), "expected at least 1 block"),
        (InterlinguaAdapterConfig(slots=0), "adapter.slots: expected at least 1, got 0"),
    ],
)
def test_sizes_that_cannot_be_built_are_refused(config, message: str, tiny_reader: Reader) -> None:
    with pytest.raises(ConfigError, match=message):
        config.build(32, tiny_reader)
