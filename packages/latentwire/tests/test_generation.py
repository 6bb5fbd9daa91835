"""How answers are written: bans, least lengths, the first token drawn; by both ways to prompt."""

import pytest
import torch

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.token_prompts import TokenPrompts
from llgbm.latentwire.generation import DecodingConfig, choose_token, write
from llgbm.latentwire.prefix import replayed
from llgbm.latentwire.reader import Reader


@pytest.fixture
def state(tiny_reader):
    """Last hidden states of two prompts."""
    torch.manual_seed(0)
    return torch.randn(2, tiny_reader.width)


def prefers(reader: Reader, tokens, monkeypatch) -> None:
    """Make a reader like these tokens most, in this order, wherever it stands."""
    logits = torch.full((reader.vocabulary,), -50.0)
    for place, token in enumerate(tokens):
        logits[token] = 10.0 - place
    monkeypatch.setattr(
        "llgbm.latentwire.generation.next_token_logits",
        lambda model, state: logits.expand(len(state), -1).clone(),
    )


def first(reader, state, step=0, **settings) -> list[int]:
    draw = torch.Generator().manual_seed(settings.get("seed", 0))
    return choose_token(reader, state, step, DecodingConfig(**settings), draw).tolist()


def test_the_end_is_banned_for_the_first_steps_and_a_line_may_end(
    tiny_reader, state, monkeypatch
) -> None:
    line = int(tiny_reader.new_lines[0])
    prefers(tiny_reader, [tiny_reader.end, line, 7000], monkeypatch)
    assert first(tiny_reader, state) == [tiny_reader.end] * 2
    assert first(tiny_reader, state, step=1, eos_ban_steps=2) == [line] * 2
    assert first(tiny_reader, state, step=2, eos_ban_steps=2) == [tiny_reader.end] * 2


def test_neither_end_nor_new_line_is_written_before_so_many_tokens(
    tiny_reader, state, monkeypatch
) -> None:
    line = int(tiny_reader.new_lines[0])
    prefers(tiny_reader, [tiny_reader.end, line, 7000], monkeypatch)
    assert first(tiny_reader, state, step=1, min_new_tokens=2) == [7000] * 2
    assert first(tiny_reader, state, step=2, min_new_tokens=2) == [tiny_reader.end] * 2


def test_new_lines_are_all_tokens_that_hold_one(tiny_reader) -> None:
    found = set(tiny_reader.new_lines.tolist())
    assert set(tiny_reader.tokens("a\n\nb\n c")) & found
    assert not set(tiny_reader.tokens("a b, c.")) & found


def test_the_first_token_is_drawn_among_the_likeliest_and_later_ones_are_not(
    tiny_reader, state, monkeypatch
) -> None:
    prefers(tiny_reader, [5, 6, 7], monkeypatch)
    settings = {"first_token_temperature": 2.0, "first_token_top_p": 0.6}
    drawn = {first(tiny_reader, state, seed=seed, **settings)[0] for seed in range(40)}
    # exp(5), exp(4.5), ...: the first two hold .49 and .30 of what these tokens have.
    assert drawn == {5, 6}
    assert {first(tiny_reader, state, 1, seed=seed, **settings)[0] for seed in range(9)} == {5}
    assert first(tiny_reader, state, seed=3, **settings) == first(
        tiny_reader, state, seed=3, **settings
    )


def test_token_ids_and_their_embeddings_are_continued_alike(tiny_reader, examples) -> None:
    contexts = [tiny_reader.tokens(each.context) for each in examples]
    endings = [tiny_reader.tokens(each.ending) for each in examples]
    settings = DecodingConfig(max_new_tokens=8, min_new_tokens=8)
    replay = write(tiny_reader, replayed(tiny_reader, contexts), endings, settings)
    ids = [context + ending for context, ending in zip(contexts, endings, strict=True)]
    text = TokenPrompts(tiny_reader, ids, [len(context) for context in contexts]).write(settings)
    assert replay.tokens == text.tokens
    assert [len(tokens) for tokens in text.tokens] == [8] * 4
    assert replay.texts == text.texts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_new_tokens": 0}, "at least 1"),
        ({"max_new_tokens": 2, "min_new_tokens": 3}, "min_new_tokens <= max_new_tokens"),
        ({"eos_ban_steps": -1}, "no negative ban"),
        ({"first_token_temperature": -0.1}, "no negative ban or temperature"),
        ({"first_token_temperature": float("nan")}, "temperature"),
        ({"first_token_temperature": float("inf")}, "temperature"),
        ({"first_token_top_p": 0.0}, "above 0, at most 1"),
        ({"first_token_top_p": float("nan")}, "above 0, at most 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        DecodingConfig(**settings)
