import gzip
import importlib
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llgbm.deltas.errors import MissingPackageError
from llgbm.latentwire.errors import ConfigError, LatentFileError, PromptError
from llgbm.latentwire.prefix import empty_prefix
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import score
from llgbm.latentwire.wire import BytesRow, latent_row, pack, summed, text_rows
from llgbm.latentwire.wire.accounting import gzip_bytes, utf8_bytes, zstd_bytes
from llgbm.latentwire.wire.arithmetic import TOTAL, counts_of, decode, encode
from llgbm.latentwire.wire.predicted import (
    count_bytes,
    decode_text,
    encode_text,
    predicted_bits,
)

TEXT = "The train to Rome left at ten, and the train to Zürich left at eleven. " * 2
PRINTS = {"reader": "ab" * 32, "compressor": "cd" * 32}


class Opened:
    """A tokenizer that puts a token before every text."""

    eos_token_id, pad_token_id = 2, 2

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        ids = self._inner(text, add_special_tokens=False)["input_ids"]
        return {"input_ids": [1, *ids] if add_special_tokens else ids}


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=50))
def test_counts_sum_to_the_total_and_leave_out_no_symbol(logits: list[float]) -> None:
    counts = counts_of(torch.tensor(logits))
    assert counts.sum() == TOTAL
    assert counts.min() >= 1
    # What a symbol may lose or gain: one count for the floor, one a symbol for the rest.
    exact = torch.tensor(logits).double().softmax(-1).numpy() * TOTAL
    assert np.abs(counts - exact).max() <= 2 * len(logits) + 2


def test_counts_of_logits_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ConfigError, match="finite numbers, got 2, 1 of them"):
        counts_of(torch.tensor([0.0, float("nan")]))


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(0, 2**31))
def test_coded_symbols_come_back_in_their_ideal_length(symbols: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    tables = [
        counts_of(torch.tensor(generator.normal(size=7) * generator.uniform(0, 12)))
        for _ in range(len(symbols) + 1)
    ]

    def counts(before: Any) -> np.ndarray:
        return tables[len(before)]

    data = encode(symbols, counts)
    assert decode(data, len(symbols), counts) == symbols
    ideal = sum(-math.log2(tables[place][each] / TOTAL) for place, each in enumerate(symbols))
    # At most a byte for the end; zeros at the end are not written.
    assert len(data) <= ideal / 8 + 1.001


@pytest.mark.parametrize("symbol", [0, 1, 2])
def test_a_carry_runs_through_bytes_that_are_out(symbol: int) -> None:
    # Chances next to a half keep the lower end near a carry for many steps.
    table = np.array([TOTAL // 2 - 1, 2, TOTAL // 2 - 1])
    symbols = [2, *[0] * 5, 1, *[2] * 40, symbol, *[1] * 20]
    assert decode(encode(symbols, lambda _: table), len(symbols), lambda _: table) == symbols


def test_likely_symbols_take_next_to_nothing() -> None:
    table = counts_of(torch.tensor([20.0, 0.0]))
    assert len(encode([0] * 10_000, lambda _: table)) <= 1


def test_a_text_coded_by_the_reader_comes_back_in_its_ideal_length(tiny_reader: Reader) -> None:
    data = encode_text(tiny_reader, TEXT)
    ids = tiny_reader.tokens(TEXT)
    assert decode_text(tiny_reader, data) == ids
    assert tiny_reader.tokenizer.decode(ids) == TEXT
    bits = predicted_bits(tiny_reader, TEXT)
    # One byte of count, at most one for the end; counts of 2**-32 a symbol and other roundings of
    # a forward token by token move it by far less than a byte.
    assert -1 <= len(data) - 1 - bits / 8 <= 1.1


def test_the_ideal_length_is_the_readers_own_nll_with_a_uniform_first_token(
    tiny_reader: Reader,
) -> None:
    ids = tiny_reader.tokens(TEXT)
    nats = score(tiny_reader, empty_prefix(tiny_reader, 1), [ids[:1]], [ids[1:]]).nll.sum()
    expected = float(nats) / math.log(2) + math.log2(tiny_reader.vocabulary)
    # float32 sums of 40 terms near 10.
    assert predicted_bits(tiny_reader, TEXT) == pytest.approx(expected, rel=1e-5)


def test_an_opening_makes_the_first_token_no_longer_uniform(tiny_reader: Reader) -> None:
    opened = Reader(tiny_reader.model, Opened(tiny_reader.tokenizer), "opened")
    ids = opened.tokens(TEXT)
    nats = score(opened, empty_prefix(opened, 1), [[]], [ids]).nll.sum()
    assert predicted_bits(opened, TEXT) == pytest.approx(float(nats) / math.log(2), rel=1e-5)
    assert decode_text(opened, encode_text(opened, TEXT)) == ids


def test_damaged_codes_of_a_text_give_other_tokens_or_an_error(tiny_reader: Reader) -> None:
    data = encode_text(tiny_reader, "Snow is white.")
    other = decode_text(tiny_reader, data[:1] + bytes([data[1] ^ 255]) + data[2:])
    assert len(other) == len(tiny_reader.tokens("Snow is white."))
    assert other != tiny_reader.tokens("Snow is white.")
    with pytest.raises(LatentFileError, match="expected its last byte, got the end"):
        decode_text(tiny_reader, b"\x80")
    with pytest.raises(LatentFileError, match="tokens: expected at most 512"):
        decode_text(tiny_reader, b"\xff" * 9)


def test_counts_of_tokens_take_seven_bits_a_byte() -> None:
    assert [count_bytes(number) for number in (0, 127, 128, 300)] == [
        b"\0",
        b"\x7f",
        b"\x80\x01",
        b"\xac\x02",
    ]


def test_gzip_and_zstd_are_counted_as_whole_files() -> None:
    assert gzip_bytes(TEXT) == len(gzip.compress(TEXT.encode(), 9, mtime=0))
    assert 0 < zstd_bytes(TEXT) < utf8_bytes(TEXT) == len(TEXT) + 2


def test_zstd_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingPackageError, match="pip install backports.zstd"):
        zstd_bytes(TEXT)


def test_a_text_is_counted_in_every_other_way(tiny_reader: Reader) -> None:
    rows = {row.name: row for row in text_rows(tiny_reader, TEXT)}
    tokens = len(tiny_reader.tokens(TEXT))
    assert list(rows) == ["utf8", "gzip", "zstd", "ids16", "ids", "arithmetic"]
    assert rows["utf8"].ratio == 1
    assert rows["ids16"].total == rows["ids"].total == 2 * tokens
    bits = predicted_bits(tiny_reader, TEXT)
    assert rows["arithmetic"].total == math.ceil(bits / 8) + 1
    with pytest.raises(PromptError, match="got 0"):
        text_rows(tiny_reader, "")


def test_a_vocabulary_above_16_bits_has_no_row_of_16_bit_ids(
    tiny_reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = -(-len(tiny_reader.tokens(TEXT)) * 17 // 8)
    monkeypatch.setattr(Reader, "vocabulary", 70_000)
    rows = {row.name: row.payload for row in text_rows(tiny_reader, TEXT)}
    assert "ids16" not in rows
    assert rows["ids"] == expected


def test_latents_are_counted_with_header_and_scales() -> None:
    data = pack(torch.randn(32, 256), "int4", **PRINTS)
    row = latent_row(data, TEXT)
    assert (row.header, row.payload, row.scales) == (46, 4096, 64)
    assert row.total == len(data)
    assert row.ratio == utf8_bytes(TEXT) / len(data) < 1
    with pytest.raises(LatentFileError, match="first bytes"):
        latent_row(b"no latents", TEXT)
    with pytest.raises(PromptError, match="got none"):
        latent_row(data, "")


def test_rows_of_several_texts_add_up() -> None:
    rows = [BytesRow("int4", 46, 100, 8, 300), BytesRow("int4", 46, 200, 8, 100)]
    assert summed(rows) == BytesRow("int4", 92, 300, 16, 400)
    for wrong in ([], [*rows, BytesRow("int8", 46, 1, 1, 1)]):
        with pytest.raises(ConfigError, match="rows of one way"):
            summed(wrong)
