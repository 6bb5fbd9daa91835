"""Mistakes and damage: one line that says what was expected and got, and nothing lost."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from llgbm.latentwire.cli import CONSOLE
from llgbm.latentwire.training.files import RunFiles
from llgbm.latentwire.training.loop import CompressorTraining

WORDS = ["stages.0.steps=4", "stages.0.batch_size=4", "stages.0.data.pairs=4"]
WORDS += ["stages.0.data.examples=64", "validation_examples=4", "save_every=2"]
END = ["--config", "key_value", "--questions", "2"]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader") / "tiny"
    assert CONSOLE.run(["tiny-reader", str(folder), "--steps", "60", "--pairs", "4"]) == 0
    return folder


@pytest.fixture(scope="module")
def trained(reader, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "r"
    assert CONSOLE.run(["train", str(folder), f"reader={reader}", *WORDS, *END]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "r")


@pytest.fixture(scope="module")
def stopped(reader, tmp_path_factory):
    """A run that Ctrl-C ended after its state of step 2."""
    folder = tmp_path_factory.mktemp("stopped") / "r"
    step = CompressorTraining._train_step

    def stops(self, *rest):
        if self.step == 3:
            raise KeyboardInterrupt
        return step(self, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CompressorTraining, "_train_step", stops)
        assert CONSOLE.run(["train", str(folder), f"reader={reader}", *WORDS, *END]) == 130
    return folder


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def refused(capsys):
    """Run a command that must end in one line that holds `message`."""

    def check(words, message, code=2):
        capsys.readouterr()
        assert CONSOLE.run([str(word) for word in words]) == code
        lines = [line for line in capsys.readouterr().err.splitlines() if "step/s" not in line]
        assert len(lines) == 1
        assert message in lines[0]

    return check


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("compressor.slots.ratio=nan", "compressor.slots.ratio: expected a number finite"),
        ("compressor.slots.ratio=inf", "compressor.slots.ratio: expected a number finite"),
        ("stages.0.lr=1e300", "stages[0].lr: expected a number at most 1e+09"),
        ("stages.0.batch_size=10000000000000", "stages[0].batch_size: expected a whole number"),
        ("seed=1" + "0" * 5000, "seed: expected a whole number, got '1"),
        ("seed=1979-05-27", "expected text, numbers and switches, got 1979-05-27"),
        ("stages.0.data.pairs=0", "pairs: expected from 1 to 16, one a key, got 0"),
        ("stages.0.data.pairs=17", "pairs: expected from 1 to 16, one a key, got 17"),
        ("stages.0.data.keys=aa", "keys: expected different lower-case letters"),
        ("stages.0.data.examples=0", "examples: expected at least 4, got 0"),
        ("stages.0.losses=[]", "losses: expected different terms, at least one, got []"),
        ("stages.0.losses=['vq']", "vq: expected a compressor with a discrete bottleneck"),
    ],
)
def test_a_setting_that_cannot_be_trained_leaves_no_folder(
    word, message, reader, refused, tmp_path
) -> None:
    refused(["train", tmp_path / "new", f"reader={reader}", *WORDS, word, *END], message)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "extends = 5", "extends: expected the name of a config, got 5"),
        ("a.toml", "day = 1979-05-27", "expected text, numbers and switches"),
        ("a.json", "[" * 100_000, "expected a TOML or JSON file"),
    ],
)
def test_a_config_file_that_makes_no_sense(name, text, message, refused, tmp_path) -> None:
    (tmp_path / name).write_text(text)
    refused(["train", tmp_path / "new", "--config", tmp_path / name], message)


def test_the_last_stage_is_checked_before_the_first_is_trained(reader, refused, tmp_path) -> None:
    config = tmp_path / "two.toml"
    config.write_text(
        f'extends = "key_value"\nreader = "{reader.as_posix()}"\n'
        '[[stages]]\nname = "a"\ndata = "key_value"\n'
        '[[stages]]\nname = "b"\ndata = "key_value"\nlosses = ["answer", "vq"]\n'
    )
    refused(["train", tmp_path / "new", "--config", config], "vq: expected a compressor")
    assert not (tmp_path / "new").exists()


def test_a_document_and_the_files_of_a_run_are_never_written_over(run, refused, tmp_path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text(": a1 b2 c3 d4")
    before = files(tmp_path)
    compress = ["compress", text, "--run", run, "--out"]
    refused([*compress, text], "notes.txt: expected another file than the text")
    refused([*compress, run / "training.json"], "one that the run is made of")
    refused([*compress, run], "expected a file to write, got a folder")
    report = ["report", run, "--out"]
    refused([*report, run / "training.json"], "one that the run is made of")
    refused([*report, run / "evaluation.jsonl"], "one that the report is made of")
    evaluate = ["evaluate", run, "--questions", "2", "--out"]
    refused([*evaluate, run / "training.json"], "one that the run is made of")
    refused([*evaluate, run / "metrics.json"], "one that the run is made of")
    refused([*evaluate, tmp_path / "x.jsonl"], "out: expected no .jsonl")
    assert files(tmp_path) == before


def test_nothing_is_written_where_a_text_is_too_long_for_the_account(
    reader, refused, tmp_path
) -> None:
    words = ["train", tmp_path / "r", f"reader={reader}", *WORDS, "compressor.encoder.name=byte"]
    words += ["compressor.encoder.width=64", "compressor.encoder.limit=2048"]
    assert CONSOLE.run([str(word) for word in [*words, *END, "--no-evaluate"]]) == 0
    text, out = tmp_path / "long.txt", tmp_path / "out.lw"
    text.write_text("a1 " * 300)
    refused(["compress", text, "--run", tmp_path / "r", "--out", out], "256 tokens, got 300")
    assert not out.exists()


def test_a_question_that_is_no_utf8(run, refused, tmp_path) -> None:
    refused(["answer", tmp_path / "x.lw", "a\udcff", "--run", run], "question: expected UTF-8")


def test_overwriting_a_run_keeps_the_users_files(run, reader, refused) -> None:
    (run / "thesis.txt").write_text("mine")
    (run / "state").mkdir(exist_ok=True)
    (run / "state" / "notes.txt").write_text("mine")
    again = ["train", run, f"reader={reader}", *WORDS, *END, "--overwrite", "--no-evaluate"]
    before = files(run)
    refused([*again[:3], *WORDS, "compressor.pooler.heads=7", *END, "--overwrite"], "pooler.heads")
    assert files(run) == before
    start = [*again[:3], *WORDS, f"start_from={run}", *END, "--overwrite", "--no-evaluate"]
    for words in (again, start):
        assert CONSOLE.run([str(word) for word in words]) == 0
        assert not (run / "evaluation.json").exists()
        assert (run / "thesis.txt").read_text() == "mine"
        assert (run / "state" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["thesis.txt"], "got no config.json"),
        (["config.json", "thesis.txt"], "thesis.txt: no file of a reader"),
        (["config.json", "data.json"], "data.json: no file of a reader"),
    ],
)
def test_a_reader_is_not_written_in_the_place_of_something_else(
    names, message, refused, tmp_path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in names:
        (folder / name).write_text("{}")
    before = files(tmp_path)
    for words in (["tiny-reader", folder], ["tune-reader", "--out", folder]):
        refused([*words, "--overwrite"], message)
    refused(["tiny-reader", folder / names[0], "--overwrite"], "got a file")
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--steps", "0"], "steps: expected at least 1, got 0"),
        (["--pairs", "99"], "pairs: expected from 1 to 16"),
        (["--keys", ""], "keys: expected different lower-case letters"),
        (["--width", "30"], "width: expected a multiple of 8, got 30"),
        (["--lr", "1e300"], "lr: expected at most 1"),
        (["--seed", "-1"], "seed: expected from 0"),
    ],
)
def test_sizes_of_a_tiny_reader(words, message, refused, tmp_path) -> None:
    refused(["tiny-reader", tmp_path / "tiny", *words], message)


def test_two_processes_do_not_train_in_one_folder(run, reader, refused) -> None:
    pytest.importorskip("fcntl")
    before = files(run)
    words = ["train", run, f"reader={reader}", *WORDS, *END]
    with RunFiles(run).locked():
        refused([*words, "--overwrite"], "expected no other process to train here")
    assert files(run) == before


def progress(**changes):
    def damage(folder):
        path = folder / "state" / "progress.json"
        content = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({k: v for k, v in content.items() if v != "gone"}))

    return damage


def state(change):
    def damage(folder):
        path = folder / "state" / "state.safetensors"
        tensors = load_file(path)
        change(tensors)
        save_file(tensors, path)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        *((progress(**{key: "gone"}), f"{key}: expected what a training saves, got 'nothing'")
          for key in ("stage", "step", "total", "smoothed", "best", "seconds", "objective")),
        *((progress(**{key: "x"}), f"{key}: expected what a training saves, got 'x'")
          for key in ("stage", "step", "total", "smoothed", "best", "seconds", "objective")),
        (progress(stage=5), "stage: expected"),
        (progress(stage=-1), "stage: expected"),
        (progress(step=99), "step: expected"),
        (progress(step=-3), "step: expected"),
        (progress(best=float("nan")), "best: expected"),
        (progress(objective={}), "objective: expected opened gates"),
        (progress(objective={"opened": {}, "smoothed": {"answer": "x"}}), "objective: expected"),
        (state(lambda tensors: tensors.pop("step")), "step: expected one number"),
        (state(lambda tensors: tensors.pop("optimizer.0.exp_avg")), "expected moments of shape"),
        (state(lambda tensors: tensors.update({"optimizer.0.exp_avg": torch.zeros(2)})),
         "expected moments of shape"),
    ],
)  # fmt: skip
def test_a_damaged_state_is_told_and_kept(
    damage, message, stopped, reader, refused, tmp_path
) -> None:
    folder = shutil.copytree(stopped, tmp_path / "r")
    damage(folder)
    before = files(folder / "state")
    refused(["train", folder, f"reader={reader}", *WORDS, *END], message)
    assert files(folder / "state") == before


def test_an_interrupted_run_goes_on(stopped, trained, reader, tmp_path) -> None:
    folder = shutil.copytree(stopped, tmp_path / "r")
    words = ["train", str(folder), f"reader={reader}", *WORDS, *END, "--no-evaluate"]
    assert CONSOLE.run(words) == 0
    name = "compressor/compressor.safetensors"
    assert (folder / name).read_bytes() == (trained / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("training.json", b'{"a": 1}', "training.json: a: expected one of reader"),
        ("evaluation.jsonl", b"", "evaluation.jsonl: answers: expected as many"),
        ("evaluation.jsonl", b"[]\n", "line 1: expected an answer, got '[]'"),
        ("evaluation.jsonl", b"\xff\n", "text: expected UTF-8, got byte 0"),
        ("evaluation.jsonl", b"[" * 100_000 + b"\n", "line 1: expected JSON"),
        ("metrics.jsonl", b'{"step": 1' + b"0" * 400 + b"}\n", "step: expected a whole number"),
        (
            "metrics.jsonl",
            b'{"step": 1, "stage": "a", "split": "train", "loss": 1' + b"0" * 400 + b"}\n",
            "step 1: loss: expected a number",
        ),
    ],
)
def test_a_report_names_the_damaged_file(name, content, message, run, refused) -> None:
    (run / name).write_bytes(content)
    refused(["report", run], message)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("compressor.slots.ratio=2,2", "expected different combinations"),
        ("compressor.slots.ratio=2,2.0", "got 'ratio-2' and 'ratio-2.0', which are the same"),
        ("seed=1,2", "expected seeds as --seeds"),
    ],
)
def test_a_sweep_that_would_lose_runs(word, message, refused, tmp_path) -> None:
    refused(["ablate", tmp_path / "a", word, "--config", "key_value"], message)
