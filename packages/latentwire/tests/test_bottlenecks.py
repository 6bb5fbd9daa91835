import sys

import pytest
import torch

from llgbm.deltas.errors import MissingPackageError
from llgbm.latentwire.bottlenecks import BOTTLENECKS, DiscreteBottleneck
from llgbm.latentwire.bottlenecks.finite import FiniteConfig
from llgbm.latentwire.bottlenecks.rounding import RoundingConfig
from llgbm.latentwire.bottlenecks.vector import VectorConfig
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, stack
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.wire import compressor_fingerprint, pack, unpack

WIDTH = 16
PRINTS = {"reader": "ab" * 32, "compressor": "cd" * 32}
DISCRETE = [VectorConfig(codebook=16), FiniteConfig(levels=(5, 5, 4), groups=3)]


def latents(rows: int = 3, slots: int = 20, size: float = 1.0, seed: int = 0) -> Latents:
    """Rows of unlike length, with numbers where the mask is False."""
    draw = torch.Generator().manual_seed(seed)
    made = stack(
        [torch.randn(slots - 2 * row, WIDTH, generator=draw) * size for row in range(rows)]
    )
    return Latents(torch.where(made.mask[..., None], made.values, 99.0), made.mask)


def built(config, reader: Reader) -> DiscreteBottleneck:
    torch.manual_seed(0)
    return config.build(WIDTH, reader)


@pytest.mark.parametrize("config", DISCRETE)
def test_codes_name_the_values_that_come_out(config, tiny_reader: Reader) -> None:
    bottleneck = built(config, tiny_reader)
    bottleneck(latents())
    bottleneck.eval()
    given = latents(seed=1)
    codes = bottleneck.codes(given)
    assert codes.dtype == torch.int64
    assert codes.shape == (3, 20, bottleneck.groups)
    assert 0 <= int(codes.min()) <= int(codes.max()) < bottleneck.codebook
    expected = bottleneck.from_codes(codes) * given.mask[..., None]
    torch.testing.assert_close(bottleneck(given).values, expected)


@pytest.mark.parametrize("config", DISCRETE)
def test_a_row_unpacked_from_its_codes_is_what_evaluation_gives(config, tiny_reader) -> None:
    bottleneck = built(config, tiny_reader)
    bottleneck(latents())
    bottleneck.eval()
    given = latents(seed=1)
    for index in range(3):
        data = pack(given.row(index), "codes", **PRINTS, bottleneck=bottleneck)
        header = unpack(data, **PRINTS).header
        slots = int(given.counts[index])
        assert header.payload_bytes == -(-slots * bottleneck.bits // 8)
        found = unpack(data, **PRINTS).row(bottleneck)
        torch.testing.assert_close(found, bottleneck(given).row(index))


@pytest.mark.parametrize("config", DISCRETE)
def test_codes_out_of_range_or_of_another_number_are_refused(config, tiny_reader) -> None:
    bottleneck = built(config, tiny_reader)
    codes = torch.zeros(1, 2, bottleneck.groups, dtype=torch.int64)
    bottleneck.from_codes(codes + bottleneck.codebook - 1)
    for wrong in (codes + bottleneck.codebook, codes - 1, codes[..., :-1], codes.float()):
        with pytest.raises(ConfigError, match="codes: expected"):
            bottleneck.from_codes(wrong)


@pytest.mark.parametrize("config", [*DISCRETE, RoundingConfig(), RoundingConfig(block=0)])
def test_what_stands_at_masked_slots_changes_nothing(config, tiny_reader: Reader) -> None:
    given = latents()
    clean = Latents(given.values * given.mask[..., None], given.mask)
    results = []
    for each in (given, clean):
        bottleneck = built(config, tiny_reader)
        trained = bottleneck(each).values
        bottleneck.eval()
        results.append((trained, bottleneck(each).values, bottleneck.last_loss))
        assert (trained[~given.mask] == 0).all()
    assert all(torch.equal(one, two) for one, two in zip(*results, strict=True))


@pytest.mark.parametrize("config", [*DISCRETE, RoundingConfig()])
def test_gradients_pass_to_latents_in_training_and_in_evaluation(config, tiny_reader) -> None:
    bottleneck = built(config, tiny_reader)
    for mode in (True, False):
        given = latents()
        values = given.values.clone().requires_grad_()
        bottleneck.train(mode)(Latents(values, given.mask)).values.square().sum().backward()
        assert values.grad is not None
        assert (values.grad[given.mask].abs().sum(-1) > 0).all()
        assert (values.grad[~given.mask] == 0).all()


def test_bits_of_a_slot_are_those_of_its_codes(tiny_reader: Reader) -> None:
    assert VectorConfig().build(WIDTH, tiny_reader).bits == 4 * 2 * 8
    assert FiniteConfig().build(WIDTH, tiny_reader).bits == 6 * 10


def test_codebooks_learn_the_clusters_that_latents_come_from(tiny_reader: Reader) -> None:
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 8, WIDTH // 4, generator=draw)
    bottleneck = built(VectorConfig(stages=1, codebook=64), tiny_reader)

    def sample() -> Latents:
        chosen = torch.randint(8, (4, 200), generator=draw)
        parts = [centre[places] for centre, places in zip(centres, chosen, strict=True)]
        noise = 0.01 * torch.randn(200, WIDTH, generator=draw)
        return stack([torch.cat(parts, dim=-1) + noise])

    def error() -> float:
        held_out = sample()
        bottleneck.eval()
        missed = bottleneck(held_out).values - held_out.values
        bottleneck.train()
        return float(missed.square().mean())

    before = error()
    for _ in range(30):
        bottleneck(sample())
    # 64 entries started on vectors of 8 clusters, each of which holds some: nothing is left but
    # the spread within clusters.
    assert error() < 2 * 0.01**2 < before / 100


def test_later_stages_take_off_what_earlier_ones_left(tiny_reader: Reader) -> None:
    errors = []
    for stages in (1, 2, 3):
        bottleneck = built(VectorConfig(groups=2, stages=stages, codebook=32), tiny_reader)
        for step in range(20):
            bottleneck(latents(slots=200, seed=step))
        bottleneck.eval()
        given = latents(slots=200, seed=99)
        missed = (bottleneck(given).values - given.values)[given.mask]
        errors.append(float(missed.square().mean()))
    assert errors[0] > 1.3 * errors[1] > 1.3**2 * errors[2]


def test_entries_that_nothing_falls_to_are_set_anew(tiny_reader: Reader) -> None:
    bottleneck = built(VectorConfig(groups=1, stages=1, codebook=8), tiny_reader)
    bottleneck(latents())
    table = bottleneck.parts[0].layers[0].codebook
    far = table.clone() + 1000
    bottleneck.parts[0].layers[0].codebook = far
    bottleneck.parts[0].layers[0]._codebook.cluster_size.fill_(0.01)
    for step in range(3):
        bottleneck(latents(seed=step))
    assert bottleneck.parts[0].layers[0].codebook.abs().max() < 10
    assert len(bottleneck.codes(latents(seed=5))[0].unique()) >= 4


def test_training_draws_alike_whatever_was_drawn_outside(tiny_reader: Reader) -> None:
    tables = []
    for outside in (1, 2):
        bottleneck = built(VectorConfig(codebook=64), tiny_reader)
        torch.manual_seed(outside)
        for step in range(3):
            bottleneck(latents(seed=step))
        state = torch.random.get_rng_state()
        torch.manual_seed(outside)
        assert torch.equal(state, torch.random.get_rng_state())
        tables.append(bottleneck.state_dict())
    assert all(torch.equal(tables[0][name], tables[1][name]) for name in tables[0])
    assert int(tables[0]["steps"]) == 3


def test_evaluation_leaves_codebooks_alone_even_before_training(tiny_reader: Reader) -> None:
    bottleneck = built(VectorConfig(codebook=16), tiny_reader).eval()
    before = {name: each.clone() for name, each in bottleneck.state_dict().items()}
    bottleneck(latents())
    after = bottleneck.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert bottleneck.last_loss == 0


def test_the_commitment_loss_draws_latents_to_their_entries(tiny_reader: Reader) -> None:
    bottleneck = built(VectorConfig(codebook=16), tiny_reader)
    bottleneck(latents())
    given = latents(seed=1)
    values = given.values.clone().requires_grad_()
    bottleneck(Latents(values, given.mask))
    (slope,) = torch.autograd.grad(bottleneck.last_loss, values)
    assert slope.abs().sum() > 0
    first = float(bottleneck.last_loss.detach())
    moved = Latents((values - 20 * slope).detach(), given.mask)
    frozen = built(VectorConfig(codebook=16, decay=0.9999), tiny_reader)
    frozen.load_state_dict(bottleneck.state_dict())
    frozen(moved)
    assert float(frozen.last_loss.detach()) < first


def test_finite_codes_are_spread_from_the_start_at_any_size_of_latents(tiny_reader) -> None:
    bottleneck = built(FiniteConfig(), tiny_reader).eval()
    for size in (1e-3, 1.0, 1e3):
        codes = bottleneck.codes(latents(slots=300, size=size))
        # 246 to 300 slots of 1,000 codes: independent even draws would give about 260.
        assert min(len(codes[0, :, group].unique()) for group in range(6)) > 120


def test_finite_values_start_as_large_as_the_readers_embeddings(tiny_reader: Reader) -> None:
    given = latents(slots=300)
    for levels in ((8, 5, 5, 5), (3, 3)):
        values = built(FiniteConfig(levels=levels), tiny_reader)(given).values[given.mask]
        ratio = float(values.detach().square().mean().sqrt()) / tiny_reader.embedding_rms
        # 846 slots of 16 numbers against 4,096 drawn at the start.
        assert ratio == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("block", [0, 8])
@pytest.mark.parametrize("bits", [8, 6, 4])
def test_rounded_latents_lose_nothing_on_the_wire(bits: int, block: int, tiny_reader) -> None:
    bottleneck = RoundingConfig(bits, block).build(WIDTH, tiny_reader)
    given = latents()
    clean = Latents(given.values * given.mask[..., None], given.mask)
    for mode in (True, False):
        rounded = bottleneck.train(mode)(clean)
        assert not torch.equal(rounded.values, clean.values)
        for index in range(3):
            data = pack(rounded.row(index), f"int{bits}", **PRINTS, block=block)
            assert torch.equal(unpack(data, **PRINTS).row(), rounded.row(index))


def test_settings_out_of_bounds_are_refused(tiny_reader) -> None:
    for config, message in (
        (VectorConfig(groups=3), "groups that divide 16"),
        (VectorConfig(stages=0), "stages of at least 1"),
        (VectorConfig(codebook=1), "from 2 to 65536, got 1"),
        (VectorConfig(decay=1.0), "decay between 0 and 1"),
        (FiniteConfig(levels=(2, 5)), "at least 3 each"),
        (FiniteConfig(levels=()), "at least 3 each"),
        (FiniteConfig(levels=(256, 257)), "65536 multiplied"),
        (FiniteConfig(groups=0), "groups: expected at least 1"),
        (RoundingConfig(bits=5), "got 5 and 8"),
        (RoundingConfig(block=-1), "got 4 and -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            config.build(WIDTH, tiny_reader)


@pytest.mark.parametrize("config", [VectorConfig(), FiniteConfig()])
def test_without_its_package_a_bottleneck_says_what_to_install(
    config, tiny_reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vector_quantize_pytorch", None)
    with pytest.raises(MissingPackageError, match="pip install vector-quantize-pytorch"):
        config.build(WIDTH, tiny_reader)


@pytest.mark.parametrize("name", sorted(BOTTLENECKS))
def test_a_compressor_encodes_through_its_bottleneck(name: str, tiny_reader, examples) -> None:
    texts = [example.context for example in examples]
    plain = Compressor(CompressorConfig(), tiny_reader).eval()
    config = CompressorConfig(bottleneck=BOTTLENECKS[name]())
    through = Compressor(config, tiny_reader).eval()
    with torch.no_grad():
        before, after = plain.encode(texts), through.encode(texts)
        expected = through.bottleneck(before)
    assert torch.equal(after.values, expected.values)
    assert torch.equal(before.values, after.values) == (name == "none")


def test_a_compressors_fingerprint_tells_configs_weights_and_codebooks_apart(tiny_reader) -> None:
    config = CompressorConfig(bottleneck=VectorConfig(codebook=16))
    compressor = Compressor(config, tiny_reader)
    first = compressor_fingerprint(compressor)
    assert compressor_fingerprint(Compressor(config, tiny_reader)) == first
    assert compressor_fingerprint(Compressor(config, tiny_reader, seed=1)) != first
    assert compressor_fingerprint(Compressor(CompressorConfig(), tiny_reader)) != first
    width = compressor.width
    values = torch.randn(1, 9, width, generator=torch.Generator().manual_seed(0))
    compressor.bottleneck(Latents(values, torch.ones(1, 9, dtype=torch.bool)))
    assert compressor_fingerprint(compressor) != first
