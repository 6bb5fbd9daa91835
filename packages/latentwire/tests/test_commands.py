"""The command line on a tiny reader: from a text file to an answer, and every mistake in a line."""

import json

import pytest

from llgbm.latentwire.cli import CONSOLE
from llgbm.latentwire.data.sources import SquadSourceConfig
from llgbm.latentwire.reader import load_reader
from llgbm.latentwire.reader_files import save_reader

WORDS = [
    "compressor.encoder.name=embeddings",
    "compressor.slots.largest=64",
    "stages.0.steps=2",
]


@pytest.fixture(scope="module")
def reader_folder(tiny_reader, teach, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader") / "tiny"
    folder.mkdir()
    # A random reader is surer of wrong answers than a uniform guess is, and would be refused.
    asked = SquadSourceConfig(longest=80).open(0).questions("validation")[:8]
    save_reader(teach(tiny_reader, asked), folder)
    return folder


@pytest.fixture(scope="module")
def run(reader_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "r"
    words = ["train", str(folder), *WORDS, f"reader={reader_folder}", "--config", "smoke"]
    assert CONSOLE.run([*words, "--questions", "5"]) == 0
    return folder


def test_training_evaluates_and_leaves_results_and_answers(run) -> None:
    result = json.loads((run / "evaluation.json").read_text())
    rows = list(result["rows"])
    assert rows[0] == "text"
    assert {"latent", "shuffled", "budget_question_kept", "unpacked_int8"} <= set(rows)
    answers = [json.loads(line) for line in (run / "evaluation.jsonl").read_text().splitlines()]
    assert len(answers) == 5 * len(rows)
    assert result["differences"]["budget_question_kept"]["latent"]["n"] == 5


def test_a_users_own_document_is_compressed_and_asked(run, tmp_path, capsys) -> None:
    document, latents = tmp_path / "notes.txt", tmp_path / "notes.lw"
    document.write_text("The library opens at nine and closes at six. It is shut on Sundays.")
    assert CONSOLE.run(["compress", str(document), "--run", str(run), "--out", str(latents)]) == 0
    said = capsys.readouterr().out
    assert "tokens in" in said
    assert "utf" in said.lower()
    ask = ["answer", str(latents), "When does it open?", "--run", str(run)]
    assert CONSOLE.run(ask) == 0
    first = capsys.readouterr().out
    assert CONSOLE.run(ask) == 0
    assert capsys.readouterr().out == first
    assert CONSOLE.run([*ask, "--reader", "second"]) == 2
    assert "expected none: this run has one" in capsys.readouterr().err
    assert CONSOLE.run([*ask, "--max-new-tokens", "1"]) == 0
    assert len(capsys.readouterr().out) < len(first)


def test_bytes_are_those_of_the_files_that_would_be_written(run, tmp_path, capsys) -> None:
    out = tmp_path / "bytes.json"
    assert CONSOLE.run(["bytes", str(run), "--texts", "2", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["texts"] == 2
    assert {"utf8", "gzip", "zstd", "arithmetic", "fp16", "int8", "int6", "int4"} <= set(
        result["rows"]
    )
    asked = SquadSourceConfig(limit=16, longest=80).open(0).questions("test")
    texts = list(dict.fromkeys(example.context for example in asked))[:2]
    assert result["rows"]["utf8"]["total"] == sum(len(text.encode()) for text in texts)
    written = 0
    for place, text in enumerate(texts):
        document, latents = tmp_path / f"{place}.txt", tmp_path / f"{place}.lw"
        document.write_text(text)
        words = ["compress", str(document), "--run", str(run), "--out", str(latents)]
        assert CONSOLE.run([*words, "--scheme", "int6", "--no-account"]) == 0
        written += latents.stat().st_size
    assert result["rows"]["int6"]["total"] == written
    assert f"{written / 2:.1f}" in said


def test_a_dry_run_prints_the_config_and_trains_nothing(reader_folder, tmp_path, capsys) -> None:
    words = ["train", str(tmp_path / "r"), f"reader={reader_folder}", *WORDS, "--config", "smoke"]
    assert CONSOLE.run([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert '"largest": 64' in said
    assert "trained parameters" in said
    assert not (tmp_path / "r").exists()


def test_a_tiny_reader_is_taught_written_and_never_overwritten_unasked(tmp_path, capsys) -> None:
    words = ["tiny-reader", str(tmp_path / "tiny"), "--steps", "2", "--pairs", "2"]
    assert CONSOLE.run(words) == 0
    assert "from text" in capsys.readouterr().out
    assert load_reader(str(tmp_path / "tiny")).tokens(" q7") != []
    assert CONSOLE.run(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert CONSOLE.run([*words, "--overwrite"]) == 0


def test_an_ablation_pairs_its_runs_and_goes_on_where_it_was(
    reader_folder, tmp_path, capsys
) -> None:
    words = ["ablate", str(tmp_path), *WORDS, f"reader={reader_folder}"]
    words += ["compressor.slots.ratio=2,4", "--config", "smoke"]
    words += ["--questions", "5", "--seeds", "0", "1"]
    assert CONSOLE.run([*words, "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert CONSOLE.run(words) == 0
    result = json.loads((tmp_path / "ablation.json").read_text())
    assert len(result["runs"]) == 2
    for numbers in result["runs"].values():
        assert numbers["f1"]["n"] == 5
        assert (
            numbers["minus_budget_question_kept"]["low"]
            <= numbers["minus_budget_question_kept"]["mean"]
        )
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("evaluation.json")}
    assert len(stamps) == 4
    assert CONSOLE.run(words) == 0
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "{new}", "compressor.slots.ration=2"], "did you mean 'ratio'"),
        (["train", "{new}", "--config", "smoke/bite"], "did you mean 'smoke"),
        (["train", "{run}", "--config", "smoke", "seed=5"], "this run was begun with"),
        (["evaluate", "{new}"], "run `llgbm-latentwire train` first"),
        (["evaluate", "{run}", "--rows", "latant"], "did you mean 'latent'"),
        (["evaluate", "{run}", "--split", "train"], "expected validation or test"),
        (["evaluate", "{run}", "--questions", "0"], "questions: expected at least 1"),
        (["compress", "{none}", "--run", "{run}", "--out", "{out}"], "expected a UTF-8 text file"),
        (["compress", "{empty}", "--run", "{run}", "--out", "{out}"], "expected text, got none"),
        (["compress", "{long}", "--run", "{run}", "--out", "{out}"], "at most 64 slots"),
        (
            ["compress", "{text}", "--run", "{run}", "--out", "{out}", "--scheme", "int5"],
            "int5",
        ),
        (["bytes", "{run}", "--schemes", "int5"], "schemes: expected some of"),
        (["bytes", "{new}"], "run `llgbm-latentwire train` first"),
        (["answer", "{text}", "What?", "--run", "{run}"], "first bytes: expected"),
        (["answer", "{none}", "What?", "--run", "{run}"], "expected a latent file"),
        (["answer", "{text}", " ", "--run", "{run}"], "question: expected text"),
        (["ablate", "{new}", "compressor.slots.ratio=2,x"], "expected a number, got 'x'"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(
    words, message, run, tmp_path, capsys
) -> None:
    (tmp_path / "empty").write_text("  \n")
    (tmp_path / "text").write_text("Snow is white.")
    (tmp_path / "long").write_text("word " * 2000)
    places = {name: tmp_path / name for name in ("none", "empty", "text", "long", "out", "new")}
    before = sorted(path.name for path in tmp_path.iterdir())
    assert CONSOLE.run([word.format(**places, run=run) for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before
