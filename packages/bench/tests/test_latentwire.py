"""Latents against text are timed behind a check of replayed embeddings and of the wire."""

import json
from dataclasses import replace

import pytest
import torch

from llgbm.bench import latentwire as suite
from llgbm.bench import latentwire_workload
from llgbm.bench.cli import CONSOLE
from llgbm.bench.compare import CompareConfig, compare
from llgbm.bench.errors import OtherTokensError
from llgbm.bench.latentwire import AGAINST, LatentwireConfig, break_even, latentwire
from llgbm.bench.latentwire_workload import LatentwireWorkload, bench_reader, passages
from llgbm.bench.report import ReportConfig, report
from llgbm.bench.timing import parts_interleaved
from llgbm.latentwire.compressor import Compressor, CompressorConfig
from llgbm.latentwire.latents import Latents

TINY = LatentwireConfig(
    "random:llama-tiny", "float32", batch=(1, 2), tokens=(9, 24), new_tokens=3, repeats=2
)
PARTS = {"text_prefill", "text_decode", "latents_encode", "latents_quantise", "latents_prefill"}


@pytest.fixture(scope="module")
def workload() -> LatentwireWorkload:
    reader = bench_reader(TINY.model, TINY.dtype, 0)
    compressor = Compressor(CompressorConfig(), reader)
    return LatentwireWorkload(reader, compressor, passages(reader, 2, 24, 0), 5, "int8")


def test_every_part_of_every_case_is_timed_compared_and_drawn(tmp_path, capsys) -> None:
    file = tmp_path / "latentwire.json"
    latentwire(replace(TINY, out=file))
    content = json.loads(file.read_text())
    assert "untrained compressor `recipe` of 4 tokens a slot" in content["scale"]
    assert [(case["batch"], case["tokens"], case["slots"]) for case in content["cases"]] == [
        (1, 9, 3), (1, 24, 6), (2, 9, 3), (2, 24, 6),
    ]  # fmt: skip
    for case in content["cases"]:
        rows = case["rows"]
        assert set(rows) == PARTS | {"latents_decode", "text", "latents_cached", "latents_online"}
        assert all(row["peak_mib"] > 0 and row["tokens_per_s"] > 0 for row in rows.values())
        for name, text in AGAINST.items():
            ratio = rows[name]["median_ms"] / rows[text]["median_ms"]
            assert case["times_text"][name] == pytest.approx(ratio)
        encoded = rows["latents_encode"]
        assert encoded["tokens_per_s"] * encoded["median_ms"] == pytest.approx(
            1e3 * case["batch"] * case["tokens"]
        )
    assert "batch 2, 24 tokens in 6 slots: even" in capsys.readouterr().out
    ratios = compare(CompareConfig(file, file))
    assert ratios["batch=2 tokens=24 latents_prefill"] == 1.0
    drawn = report(ReportConfig(tmp_path, tmp_path / "plots"))[0].read_text()
    assert "times the text" in drawn
    assert "batch 1, 9 tokens: even" in drawn


@pytest.mark.parametrize("config", ["cache", "heads"])
def test_keys_and_values_are_timed_too(config, tmp_path) -> None:
    file = tmp_path / "latentwire.json"
    latentwire(replace(TINY, config=config, batch=(2,), tokens=(24,), out=file))
    content = json.loads(file.read_text())
    assert f"untrained compressor `{config}`" in content["scale"]
    assert content["cases"][0]["slots"] == 6
    assert all(row["median_ms"] > 0 for row in content["cases"][0]["rows"].values())


def test_parts_add_up_to_the_wholes(workload) -> None:
    text, latents = workload.time_text(), workload.time_latents()
    assert text["text"] == pytest.approx(text["text_prefill"] + text["text_decode"])
    cached = latents["latents_prefill"] + latents["latents_decode"]
    assert latents["latents_cached"] == pytest.approx(cached)
    before = latents["latents_encode"] + latents["latents_quantise"]
    assert latents["latents_online"] == pytest.approx(before + cached)
    assert all(seconds > 0 for seconds in [*text.values(), *latents.values()])


def test_passages_differ_and_answers_have_as_many_tokens_as_are_asked_for(workload) -> None:
    assert [len(context) for context in workload.contexts] == [24, 24]
    assert workload.texts[0] != workload.texts[1]
    for written in (workload.read_text(5), workload.read_latents(workload.latents, 5)):
        assert [len(tokens) for tokens in written.tokens] == [5, 5]


def test_what_is_read_is_what_the_wire_gives_back(workload) -> None:
    sent = workload.sent(workload.latents)
    assert torch.equal(sent.mask, workload.latents.mask)
    assert not torch.equal(sent.values, workload.latents.values)
    torch.testing.assert_close(sent.values, workload.latents.values, atol=0.05, rtol=0.05)


def test_break_even_is_encoding_over_what_a_reuse_saves() -> None:
    assert break_even(6.0, 5.0, 2.0) == 2.0
    assert break_even(6.0, 2.0, 2.0) == break_even(6.0, 2.0, 5.0) == "never"


def test_parts_are_summed_up_by_their_medians_without_the_warm_up() -> None:
    times = iter([9.0, 1.0, 3.0, 2.0])
    found = parts_interleaved((lambda: {"a": next(times)}, lambda: {"b": 0.5}), 3)
    assert found["a"].median_ms == 2000.0
    assert found["b"].median_ms == 500.0
    assert not list(times)


def test_a_replay_that_writes_other_tokens_stops_the_run_before_it_is_timed(monkeypatch) -> None:
    plain = latentwire_workload.replayed

    def other(reader, contexts):
        return plain(reader, [list(reversed(context)) for context in contexts])

    monkeypatch.setattr(latentwire_workload, "replayed", other)
    monkeypatch.setattr(suite, "parts_interleaved", lambda *a: pytest.fail("timed"))
    with pytest.raises(OtherTokensError, match="replayed embeddings: expected the text's tokens"):
        latentwire(replace(TINY, new_tokens=8))


@pytest.mark.parametrize("config", ["cache", "heads"])
def test_keys_and_values_that_are_misread_stop_the_run(config, monkeypatch) -> None:
    plain = Compressor.encode

    def other(self, texts) -> Latents:
        found = plain(self, texts)
        return found.replaced(-found.values)

    monkeypatch.setattr(Compressor, "encode", other)
    monkeypatch.setattr(suite, "parts_interleaved", lambda *a: pytest.fail("timed"))
    with pytest.raises(OtherTokensError, match="keys and values of every position: expected"):
        latentwire(replace(TINY, config=config, batch=(2,), tokens=(24,), new_tokens=24))


def test_a_wire_that_changes_what_it_sends_stops_the_run(workload, monkeypatch) -> None:
    workload.check()
    sent = LatentwireWorkload.sent

    def louder(self, latents: Latents) -> Latents:
        back = sent(self, latents)
        return back.replaced(1.5 * back.values)

    monkeypatch.setattr(LatentwireWorkload, "sent", louder)
    with pytest.raises(OtherTokensError, match="int8: expected the same bytes, row 0"):
        workload.check()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch", "0"], "batch: expected at least 1, got 0"),
        (["--tokens"], "tokens: expected at least one, got none"),
        (["--ratio", "0.5"], "ratio: expected at least 1, got 0.5"),
        (["--new-tokens", "0"], "new_tokens: expected at least 1, got 0"),
        (["--seed", "-1"], "seed: expected from 0 to"),
        (["--model", "random:llama-tiny", "--tokens", "4000"], "expected 1 to 2048 tokens"),
    ],
)
def test_sizes_that_do_not_fit_are_one_line(arguments, words, capsys) -> None:
    assert CONSOLE.run(["latentwire", *arguments]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said
    assert len(said.splitlines()) == 1
