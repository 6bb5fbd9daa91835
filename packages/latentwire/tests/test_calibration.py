import pytest
import torch

from llgbm.latentwire.calibration import CALIBRATIONS
from llgbm.latentwire.calibration.batch import BatchCalibrationConfig
from llgbm.latentwire.calibration.channel import ChannelCalibrationConfig
from llgbm.latentwire.calibration.embedding_rms import EmbeddingRMSCalibrationConfig
from llgbm.latentwire.calibration.prefix_gain import PrefixGainCalibrationConfig
from llgbm.latentwire.calibration.text_embeddings import sample_texts, text_embeddings
from llgbm.latentwire.data.squad import load_squad
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.prefix import replayed
from llgbm.latentwire.reader import load_reader
from llgbm.latentwire.transforms.moments import matched


@pytest.fixture(scope="module")
def reader():
    return load_reader()


def passages(split: str, number: int) -> list[str]:
    return sorted({question.context for question in load_squad(split)})[:number]


def replays(reader, texts, size=16):
    rows = [reader.tokens(text) for text in texts]
    return [replayed(reader, rows[start : start + size]) for start in range(0, len(rows), size)]


@pytest.fixture(scope="module")
def unseen(reader):
    """Real embeddings of real passages."""
    return replays(reader, passages("test", 64))


def changes(calibration, batches) -> torch.Tensor:
    """|calibrated - real| / |real| of every passage."""
    found = []
    with torch.no_grad():
        for batch in batches:
            moved = calibration(batch.embeds, batch.mask) * batch.mask[..., None]
            away = (moved - batch.embeds).flatten(1).norm(dim=1)
            found.append(away / batch.embeds.flatten(1).norm(dim=1))
    return torch.cat(found)


@pytest.mark.parametrize("name", ["none", "batch", "channel", "prefix_gain"])
def test_real_embeddings_pass_unchanged_at_the_start(name, reader, unseen) -> None:
    # Rounding of float32 alone.
    assert changes(CALIBRATIONS[name]().build(reader).eval(), unseen).max() < 1e-6


def test_rms_calibration_at_scale_1_is_close_to_a_no_op_on_text(reader, unseen) -> None:
    calibration = EmbeddingRMSCalibrationConfig().build(reader)
    change = changes(calibration, unseen)
    # All that changes is that each passage takes the same RMS: passages differ that much.
    real = torch.cat(
        [
            torch.stack([batch.embeds[i, batch.mask[i]].square().mean() for i in range(batch.rows)])
            for batch in unseen
        ]
    ).sqrt()
    torch.testing.assert_close(change, (calibration.target / real - 1).abs(), rtol=1e-3, atol=1e-5)
    assert change.mean() < 0.03
    assert change.max() < 0.08


def test_calibrating_to_the_table_would_not_be(reader, unseen) -> None:
    """Why targets are measured on text: the table is larger, and has another mean."""
    table = reader.embedding.float()
    text = text_embeddings(reader, passages("train", 64))
    assert reader.embedding_rms > 1.15 * text.rms
    std = text.variance.sqrt()

    def to_the_table(values, mask):
        return matched(values, text.mean, std.square(), table.mean(0), table.std(0))

    assert changes(to_the_table, unseen).min() > 0.5


def test_batch_calibration_that_has_followed_real_text_is_close_to_a_no_op(reader, unseen) -> None:
    texts = passages("train", 456)
    calibration = BatchCalibrationConfig().build(reader)
    calibration.fit(reader, texts)
    calibration.train()
    for batch in replays(reader, texts):
        calibration(batch.embeds, batch.mask)
    # Running moments of momentum 0.1 average about 19 batches of 2700 tokens: a mean of 50,000
    # draws is off by 1 / sqrt(50,000) = 0.0045 of a deviation, somewhat more since tokens of one
    # passage are alike.
    assert changes(calibration.eval(), unseen).max() < 0.01


def test_a_small_sample_of_text_knows_the_size_of_text(reader) -> None:
    sample = text_embeddings(reader, sample_texts())
    assert sample.tokens > 400
    text = text_embeddings(reader, passages("train", 456))
    assert sample.rms == pytest.approx(text.rms, rel=0.01)


def test_text_moments_are_those_of_the_tokens_one_by_one(tiny_reader, examples) -> None:
    texts = [example.context for example in examples]
    rows = torch.cat([tiny_reader.embed(torch.tensor(tiny_reader.tokens(text))) for text in texts])
    found = text_embeddings(tiny_reader, texts)
    assert found.tokens == len(rows)
    torch.testing.assert_close(found.mean, rows.mean(0))
    torch.testing.assert_close(found.variance, rows.var(0, correction=0))
    assert found.rms == pytest.approx(float(rows.square().mean().sqrt()), rel=1e-5)
    with pytest.raises(PromptError, match="at least one token"):
        text_embeddings(tiny_reader, [""])


SOME = torch.arange(5) < torch.tensor([[5], [2], [1]])


def vectors(rows: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, 5, 64, generator=torch.Generator().manual_seed(seed))


def test_a_text_takes_the_rms_and_its_slots_keep_their_relative_sizes(tiny_reader) -> None:
    calibration = EmbeddingRMSCalibrationConfig().build(tiny_reader)
    sizes = torch.tensor([0.02, 1.0, 40.0])[:, None, None]
    shape = 1 + 0.1 * torch.arange(5)[:, None]
    values = sizes * shape * vectors()
    values[~SOME] = 1e5
    with torch.no_grad():
        moved = calibration(values, SOME)
    for index in range(3):
        real, before = moved[index, SOME[index]], values[index, SOME[index]]
        assert float(real.square().mean().sqrt()) == pytest.approx(
            float(calibration.target), rel=1e-4
        )
        ratios = real.norm(dim=-1) / before.norm(dim=-1)
        torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))
        alone = calibration(values[index : index + 1], SOME[index : index + 1])
        torch.testing.assert_close(alone[0, SOME[index]], real)


def test_no_slot_is_left_longer_than_the_readers_longest_embedding(tiny_reader) -> None:
    calibration = EmbeddingRMSCalibrationConfig().build(tiny_reader)
    values = 0.1 * vectors(1)
    values[0, 3] *= 100
    moved = calibration(values, torch.ones(1, 5, dtype=torch.bool)).detach()
    sizes = moved[0].square().mean(-1).sqrt()
    longest = tiny_reader.embedding.square().mean(-1).sqrt().max()
    assert float(sizes[3]) == pytest.approx(float(longest), rel=1e-5)
    assert (sizes[[0, 1, 2, 4]] < longest).all()


def test_gains_start_at_1_and_learn(tiny_reader) -> None:
    calibration = EmbeddingRMSCalibrationConfig().build(tiny_reader)
    assert calibration.gain == 1
    calibration(vectors(), SOME).square().sum().backward()
    assert calibration.gain.grad > 0
    louder = EmbeddingRMSCalibrationConfig(scale=2.0).build(tiny_reader)
    torch.testing.assert_close(louder(vectors(), SOME), 2 * calibration(vectors(), SOME))
    zeros = torch.zeros(1, 5, 64, requires_grad=True)
    quiet = calibration(zeros, SOME[:1])
    assert not quiet.any()
    assert torch.autograd.grad(quiet.sum(), zeros)[0].isfinite().all()


def test_batch_calibration_gives_slots_the_moments_of_text(tiny_reader) -> None:
    calibration = BatchCalibrationConfig(momentum=0.2).build(tiny_reader).train()
    texts = sample_texts()
    values = 4 * vectors() - 2
    values[~SOME] = 1e5
    for _ in range(80):
        calibration(values, SOME)
    moved = calibration.eval()(values, SOME)[SOME]
    text = text_embeddings(tiny_reader, texts)
    # What is left of the first moments is 0.8 ** 80, far below rounding.
    torch.testing.assert_close(moved.mean(0), text.mean, rtol=0, atol=1e-5)
    torch.testing.assert_close(moved.std(0, correction=0), text.variance.sqrt(), rtol=1e-4, atol=0)
    loaded = BatchCalibrationConfig().build(tiny_reader).eval()
    loaded.load_state_dict(calibration.state_dict())
    assert torch.equal(loaded(values, SOME)[SOME], moved)


def test_batch_calibration_sees_in_training_what_evaluation_sees(tiny_reader) -> None:
    calibration = BatchCalibrationConfig().build(tiny_reader).train()
    for seed in range(3):
        trained = calibration(3 * vectors(seed=seed), SOME)
    calibration.eval()
    batch = torch.cat([3 * vectors(seed=2), vectors(seed=9)])
    together = calibration(batch, torch.cat([SOME, SOME]))[:3]
    torch.testing.assert_close(together, trained)
    assert (trained - 3 * vectors(seed=2)).abs().max() > 1e-2
    # One text of one slot is no trouble either.
    one = calibration.train()(vectors(1)[:, :1], SOME[:1, :1])
    assert one.isfinite().all()


def test_prefix_gain_is_one_number_times_one_a_place(tiny_reader) -> None:
    calibration = PrefixGainCalibrationConfig(gain=1.1, slots=5).build(tiny_reader)
    torch.testing.assert_close(calibration(vectors(), SOME), 1.1 * vectors())
    with torch.no_grad():
        calibration.slot_gain.copy_(torch.arange(5.0))
    expected = 1.1 * torch.arange(5.0)[:, None] * vectors()
    torch.testing.assert_close(calibration(vectors(), SOME), expected)
    with pytest.raises(ConfigError, match="at least 6, as a text has them, got 5"):
        calibration(torch.zeros(1, 6, 64), torch.ones(1, 6, dtype=torch.bool))
    plain = PrefixGainCalibrationConfig(slots=0).build(tiny_reader)
    assert [name for name, _ in plain.named_parameters()] == ["gain"]
    assert torch.equal(plain(vectors(), SOME), vectors())


def test_channels_undo_what_was_done_to_each(tiny_reader) -> None:
    calibration = ChannelCalibrationConfig().build(tiny_reader)
    gain, bias = vectors()[0, 0].exp(), vectors()[0, 1]
    spoilt = (vectors(seed=1) - bias) / gain
    optimizer = torch.optim.LBFGS(calibration.parameters(), max_iter=200)

    def loss():
        optimizer.zero_grad()
        value = (calibration(spoilt, SOME) - vectors(seed=1)).square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    torch.testing.assert_close(calibration.gain.detach(), gain, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(calibration.bias.detach(), bias, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("embedding_rms", {"scale": 0.0}, "calibration.scale: expected above 0, got 0"),
        ("batch", {"momentum": 1.5}, "calibration.momentum: .* got 1.5"),
        ("prefix_gain", {"gain": -1.0}, "gain above 0 .* got -1"),
        ("prefix_gain", {"slots": -1}, "slots of 0 or more, got 1 and -1"),
    ],
)
def test_numbers_out_of_range_are_refused(name, options, message, tiny_reader) -> None:
    with pytest.raises(ConfigError, match=message):
        CALIBRATIONS[name](**options).build(tiny_reader)
