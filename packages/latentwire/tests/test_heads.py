"""Keys and values of which every head keeps its own number."""

import copy
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llgbm.latentwire.commands.evaluate import default_rows
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.encoders.cache import CacheEncoderConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.evaluate import evaluate, rows_by_name
from llgbm.latentwire.generation import DecodingConfig, write
from llgbm.latentwire.head_pairs import HeadPairs, attention
from llgbm.latentwire.head_shares import fitted_shares, head_counts, owners
from llgbm.latentwire.latents import States
from llgbm.latentwire.poolers.heads import HeadsPooler, HeadsPoolerConfig
from llgbm.latentwire.poolers.last import LastPoolerConfig
from llgbm.latentwire.prefix import replayed
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import cache_of, score
from llgbm.latentwire.slots import SlotsConfig
from llgbm.latentwire.training.loop import CompressorTraining
from llgbm.latentwire.two_readers.compressor import SharedCompressor, SharedCompressorConfig
from llgbm.latentwire.ways.cache import CacheWayConfig
from llgbm.latentwire.ways.heads import HeadsWayConfig

TEXTS = [
    "Anna lives in a house by the sea.",
    "Ben has two dogs and a cat, and one bird that sings in the morning.",
    "Snow is white.",
]


def made(reader, ratio: float = 4.0, tuning: str = "frozen", first: bool = True) -> Compressor:
    config = CompressorConfig(
        SlotsConfig(ratio),
        CacheEncoderConfig(tuning=tuning, received=True),
        HeadsPoolerConfig(),
        way=HeadsWayConfig(first),
    )
    return Compressor(config, reader)


@pytest.fixture
def fitted(tiny_reader) -> Compressor:
    compressor = made(tiny_reader, ratio=2.0)
    compressor.fit(TEXTS)
    return compressor


@given(
    st.lists(st.floats(0, 8), min_size=1, max_size=12).filter(lambda x: sum(x) > 0.1),
    st.integers(1, 40),
)
@settings(deadline=None)
def test_pairs_are_divided_without_rest_and_by_the_shares(shares, slots) -> None:
    told = torch.tensor(shares, dtype=torch.float64)
    told = told * len(told) / told.sum()
    counts = head_counts(told, slots)
    assert int(counts.sum()) == slots * len(shares)
    assert ((counts - told * slots).abs() < 1).all()
    head, place = owners(counts)
    assert torch.bincount(head, minlength=len(shares)).tolist() == counts.tolist()
    for number, count in enumerate(counts.tolist()):
        assert place[head == number].tolist() == list(range(count))


def test_shares_are_those_among_the_most_looked_at_pairs() -> None:
    received = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.7, 0.6]])
    # Of six pairs the best two are the first head's, of four one is the second's.
    assert fitted_shares([received], [1]).tolist() == [2.0, 0.0]
    assert fitted_shares([received], [2]).tolist() == [1.5, 0.5]


def test_slots_hold_what_each_heads_most_looked_at_positions_held(tiny_reader) -> None:
    pooler = HeadsPooler(HeadsPoolerConfig(), tiny_reader, SlotsConfig())
    layers, _, heads, width = pooler.shape
    pooler.shares.copy_(torch.tensor([2.0, 0.5, 1.0, 0.5, 2.0, 0.0]))
    generator = torch.Generator().manual_seed(0)
    states = States(
        torch.randn(2, 6, pooler.width, generator=generator),
        torch.tensor([[True] * 6, [True] * 5 + [False]]),
        received=torch.rand(2, 6, layers, heads, generator=generator),
    )
    latents = pooler(states, torch.tensor([2, 2]))
    values = states.values.unflatten(-1, pooler.shape)
    for row, length in enumerate((6, 5)):
        expected = []
        for number, count in enumerate((4, 1, 2, 1, 4, 0)):
            layer, head = divmod(number, heads)
            best = states.received[row, :length, layer, head].topk(count).indices.sort().values
            expected.append(values[row, best, layer, :, head])
        found = latents.row(row).reshape(-1, 2, width)
        torch.testing.assert_close(found, torch.cat(expected))


def test_everything_kept_by_every_head_is_the_text_itself(tiny_reader, examples) -> None:
    """Read, and written after endings of unlike length, so that there is padding on the left."""
    compressor = made(tiny_reader, ratio=1.0, first=False)
    contexts = [each.context for each in examples]
    latents = compressor.encode(contexts)
    endings = [tiny_reader.tokens(each.ending) for each in examples]
    assert len({len(ending) for ending in endings}) > 1
    answers = [tiny_reader.answer_tokens(each.answer) for each in examples]
    settings = DecodingConfig(max_new_tokens=6, min_new_tokens=6)
    with compressor.attached(latents):
        found = score(tiny_reader, compressor.prefix(latents), endings, answers)
        written = write(tiny_reader, compressor.prefix(latents), endings, settings)
    plain = replayed(tiny_reader, [tiny_reader.tokens(context) for context in contexts])
    text = score(tiny_reader, plain, endings, answers)
    torch.testing.assert_close(found.logits, text.logits, atol=1e-3, rtol=1e-3)
    assert written.tokens == write(tiny_reader, plain, endings, settings).tokens


def test_heads_have_their_own_pairs_right_before_what_is_read(fitted, tiny_reader) -> None:
    latents = fitted.encode(TEXTS)
    layers = fitted.port.way.pairs(tiny_reader, latents)
    counts = [head_counts(fitted.pooler.shares, m).tolist() for m in latents.counts.tolist()]
    mask = fitted.prefix(latents).cache_mask
    # One more is the first, which all see.
    assert mask.sum(1).tolist() == [1 + max(each) for each in counts]
    for number, pairs in enumerate(pair for layer in layers for pair in layer):
        own = [each[number] for each in counts]
        assert pairs.keys.shape[1] == 1 + max(own)  # and no more, however many others have
        assert pairs.seen.sum(1).tolist() == [1 + each for each in own]
        for row, count in enumerate(own):
            assert pairs.seen[row, pairs.seen.shape[1] - count :].all()


def test_a_lone_text_takes_no_more_than_its_slots(fitted, tiny_reader) -> None:
    latents = fitted.encode(TEXTS[1:2])
    layers = fitted.port.way.pairs(tiny_reader, latents)
    held = sum(pairs.keys.numel() + pairs.values.numel() for layer in layers for pairs in layer)
    # `first` is a slot's worth more.
    assert held == (int(latents.counts[0]) + 1) * latents.values.shape[2]
    cache = cache_of(tiny_reader, fitted.prefix(latents))
    assert [layer.keys for layer in cache.layers] == [None] * tiny_reader.layers


def test_attention_to_pairs_of_their_own_is_softmax_by_head() -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    query, key, value = drawn(2, 4, 3, 8), drawn(2, 2, 3, 8), drawn(2, 2, 3, 8)
    seen = [torch.tensor([[True] * 5, [False] * 2 + [True] * 3]), torch.zeros(2, 0).bool()]
    own = [HeadPairs(drawn(*each.shape, 8), drawn(*each.shape, 8), each) for each in seen]
    causal = torch.ones(3, 3).tril().bool()
    mask = torch.zeros(2, 1, 3, 3).masked_fill(~causal, torch.finfo(torch.float32).min)
    found = attention(query, key, value, mask, 0.3, own)
    for row in range(2):
        for head in range(4):
            pairs = own[head // 2]
            there = pairs.seen[row]
            keys = torch.cat([pairs.keys[row, there], key[row, head // 2]])
            values = torch.cat([pairs.values[row, there], value[row, head // 2]])
            before = torch.ones(3, int(there.sum())).bool()
            scores = 0.3 * query[row, head] @ keys.T
            scores = scores.masked_fill(~torch.cat([before, causal], dim=1), -torch.inf)
            torch.testing.assert_close(found[row, head], scores.softmax(-1) @ values)


def test_a_text_alone_is_read_as_in_company(fitted, tiny_reader) -> None:
    endings = [tiny_reader.tokens("\nQuestion: Who?\nAnswer:")] * len(TEXTS)
    answers = [tiny_reader.answer_tokens("Anna")] * len(TEXTS)

    def read(texts):
        latents = fitted.encode(texts)
        some = slice(0, len(texts))
        with fitted.attached(latents):
            prefix = fitted.prefix(latents)
            scored = score(tiny_reader, prefix, endings[some], answers[some])
            settings = DecodingConfig(max_new_tokens=4)
            return scored, write(tiny_reader, prefix, endings[some], settings).tokens

    together, written = read(TEXTS)
    for place, text in enumerate(TEXTS):
        alone, own = read([text])
        torch.testing.assert_close(
            together.nll[together.row == place], alone.nll, atol=1e-4, rtol=1e-4
        )
        assert own[0] == written[place]


def test_what_is_written_is_what_reading_all_again_says(fitted, tiny_reader, examples) -> None:
    latents = fitted.encode([each.context for each in examples])
    endings = [tiny_reader.tokens(each.ending) for each in examples]
    settings = DecodingConfig(max_new_tokens=6, min_new_tokens=6)
    with fitted.attached(latents):
        prefix = fitted.prefix(latents)
        written = write(tiny_reader, prefix, endings, settings).tokens
        scored = score(tiny_reader, prefix, endings, written)
    for row, tokens in enumerate(written):
        guesses = scored.logits[scored.row == row].clone()
        guesses[:, [tiny_reader.end, *tiny_reader.new_lines]] = -torch.inf
        assert guesses.argmax(1).tolist() == tokens


def test_pairs_sit_on_their_layers_device(fitted, tiny_reader) -> None:
    latents = fitted.encode(TEXTS)
    model = copy.deepcopy(tiny_reader.model)
    model.model.layers[1].to("meta")
    pairs = fitted.port.way.pairs(Reader(model, tiny_reader.tokenizer, "divided"), latents)
    devices = [{own.keys.device.type, own.seen.device.type} for (own, *_) in pairs]
    assert devices == [{"cpu"}, {"meta"}, {"cpu"}]


def test_the_reader_attends_as_before_afterwards(fitted, tiny_reader) -> None:
    before = tiny_reader.config._attn_implementation
    latents = fitted.encode(TEXTS)
    with pytest.raises(KeyError), fitted.attached(latents):
        raise KeyError
    assert tiny_reader.config._attn_implementation == before


def test_the_score_learns_what_kept_states_do_to_the_loss(tiny_reader, examples) -> None:
    compressor = made(tiny_reader, ratio=2.0, tuning="lora")
    compressor.fit(TEXTS)
    latents = compressor.encode([each.context for each in examples])
    endings = [tiny_reader.tokens(each.ending) for each in examples]
    answers = [tiny_reader.answer_tokens(each.answer) for each in examples]
    with compressor.attached(latents):
        score(tiny_reader, compressor.prefix(latents), endings, answers).nll.sum().backward()
    assert compressor.pooler.score.grad.any()
    moved = {name for name, each in compressor.trained().items() if each.grad is not None}
    assert {name.split(".")[0] for name in moved} == {"encoder", "pooler", "port"}


def test_shares_are_saved_with_the_compressor(tiny_reader, tmp_path) -> None:
    config = read_config("smoke/pooler_heads", ["stages.0.steps=2", "stages.0.batch_size=2"])
    training = CompressorTraining(config, tiny_reader, tmp_path / "run")
    training.fit()
    shares = training.compressor.pooler.shares
    assert float(shares.mean()) == pytest.approx(1)
    assert float(shares.std()) > 0
    loaded = CompressorTraining(config, tiny_reader, tmp_path / "run").fit()
    assert torch.equal(loaded.pooler.shares, shares)
    assert torch.equal(loaded.port.way.shares, shares)


def test_a_run_without_steps_is_fitted_and_validated(tiny_reader, tmp_path) -> None:
    config = read_config("smoke/way_heads", ["stages.0.steps=0"])
    compressor = CompressorTraining(config, tiny_reader, tmp_path).fit()
    assert float(compressor.pooler.shares.std()) > 0
    assert not compressor.pooler.score.detach().any()
    finished = json.loads((tmp_path / "finished.json").read_text())
    assert finished["steps"] == 0
    assert finished["best"] > 0
    assert CompressorTraining(config, tiny_reader, tmp_path).fit().width == compressor.width


def test_latents_of_other_texts_are_taken_whole(fitted, tiny_reader, examples) -> None:
    rows = rows_by_name(["text", "latent", "shuffled"])
    found = evaluate(tiny_reader, fitted, examples, rows, decoding=DecodingConfig(2))
    assert set(found.rows) == {"text", "latent", "shuffled"}
    assert found.rows["shuffled"].nll != found.rows["latent"].nll
    assert "mean" not in default_rows(fitted)
    # Slots are what is sent; the reader sees as many positions as the head with most pairs has.
    budgets = fitted.counts([each.context for each in examples]).float()
    assert found.rows["latent"].slots == pytest.approx(float(budgets.mean()))
    most = [int(head_counts(fitted.pooler.shares, int(m)).max()) for m in budgets.tolist()]
    rest = [len(tiny_reader.opening) + len(tiny_reader.tokens(each.ending)) for each in examples]
    positions = [1 + m + n for m, n in zip(most, rest, strict=True)]
    assert found.rows["latent"].prompt_tokens == pytest.approx(sum(positions) / len(positions))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["compressor.encoder.received=false"], "pooler heads: expected the encoder `cache` with"),
        (["compressor.way.name=cache"], "expected pooler heads and way heads together"),
        (["compressor.pooler.name=last"], "expected pooler heads and way heads together"),
        (["stages.0.keep=0.5"], "expected keep 1 and no text_steps with pooler heads"),
        (["stages.0.text_steps.tail=0.1"], "expected keep 1 and no text_steps with pooler heads"),
        (["compressor.refiner.name=transformer"], "expected refiner none with pooler heads"),
        (
            ["stages.0.losses=[{name='answer'}, {name='gist'}]"],
            "expected no term gist with pooler heads",
        ),
        (["compressor.pooler.measured=0"], "measured: expected at least 1, got 0"),
    ],
)
def test_what_does_not_fit_is_refused(words, told, tiny_reader, tmp_path) -> None:
    with pytest.raises(ValueError, match=told):
        CompressorTraining(read_config("smoke/way_heads", words), tiny_reader, tmp_path)


def test_shares_of_another_ratio_are_not_taken_over(tiny_reader, tmp_path) -> None:
    first = read_config("smoke/way_heads", ["stages.0.steps=0"])
    CompressorTraining(first, tiny_reader, tmp_path / "first").fit()
    words = [f"start_from='{tmp_path / 'first'}'", "stages.0.steps=0"]
    again = read_config("smoke/way_heads", words)
    CompressorTraining(again, tiny_reader, tmp_path / "again").fit()
    other = read_config("smoke/way_heads", [*words, "compressor.slots.ratio=3"])
    with pytest.raises(ConfigError, match="start_from: expected slots as there"):
        CompressorTraining(other, tiny_reader, tmp_path / "other")


def test_two_readers_do_not_share_them(tiny_reader, other_reader) -> None:
    config = SharedCompressorConfig(
        encoder=CacheEncoderConfig(received=True), pooler=HeadsPoolerConfig()
    )
    with pytest.raises(ConfigError, match="whose slots two readers cannot share"):
        SharedCompressor(config, tiny_reader, other_reader)


def test_room_for_more_pairs_than_a_text_has_stays_unseen(fitted, tiny_reader) -> None:
    many = head_counts(fitted.pooler.shares, 4)
    states = fitted.encoder(["Snow is white."])
    assert int(many.max()) > states.values.shape[1]
    latents = fitted.pooler(states, torch.tensor([4]))
    layers = fitted.port.way.pairs(tiny_reader, latents)
    seen = [pairs.seen[0, 1:] for layer in layers for pairs in layer]
    expected = many.clamp(max=states.values.shape[1]).tolist()
    assert [int(each.sum()) for each in seen] == expected
    assert seen[int(many.argmax())][-1]  # what there is stands last


def test_a_reader_with_windows_is_refused(tiny_reader, monkeypatch) -> None:
    monkeypatch.setattr(tiny_reader.config, "layer_types", ["sliding_attention"] * 3, raising=False)
    with pytest.raises(ConfigError, match="layers that look back a window only"):
        HeadsWayConfig().build(3 * 2 * 2 * 16, tiny_reader)
    monkeypatch.setattr(tiny_reader.config, "layer_types", None, raising=False)
    monkeypatch.setattr(tiny_reader.config, "sliding_window", 32, raising=False)
    with pytest.raises(ConfigError, match="layers that look back a window only"):
        HeadsWayConfig().build(3 * 2 * 2 * 16, tiny_reader)


def test_other_poolers_are_as_before(tiny_reader) -> None:
    config = CompressorConfig(
        encoder=CacheEncoderConfig(), pooler=LastPoolerConfig(), way=CacheWayConfig()
    )
    assert "mean" in default_rows(Compressor(config, tiny_reader))
