"""Tables build every variant they name, are resumed, and write what the report reads."""

import json

import pytest

from llgbm.latentwire.cli import CONSOLE
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.data.sources import SquadSourceConfig
from llgbm.latentwire.evaluation.ablation import Ablation
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.experiments.presets import PRESETS
from llgbm.latentwire.experiments.seconds import seconds_spent
from llgbm.latentwire.experiments.tables import TABLES
from llgbm.latentwire.experiments.variants import folder_name
from llgbm.latentwire.losses.objective import Objective
from llgbm.latentwire.reader_files import save_reader


@pytest.fixture(scope="module")
def reader_folder(tiny_reader, teach, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reader") / "tiny"
    folder.mkdir()
    asked = SquadSourceConfig(longest=80).open(0)
    # Those that tables of the smoke preset ask, so that text helps the reader at all.
    examples = [*asked.questions("validation")[:8], *asked.questions("test")[:8]]
    examples += SquadSourceConfig(limit=4, longest=80).open(0).batch(4, 0)
    save_reader(teach(tiny_reader, examples, steps=20), folder)
    return folder


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("table", TABLES)
def test_every_variant_of_every_table_is_a_config(table, preset) -> None:
    variants = TABLES[table].variants(PRESETS[preset])
    configs = {name: read_config("recipe", words) for name, words in variants.items()}
    assert len({json.dumps(str(config)) for config in configs.values()}) == len(variants) >= 5


@pytest.mark.parametrize("table", TABLES)
def test_every_variant_can_be_built_with_its_losses(table, tiny_reader) -> None:
    for words in TABLES[table].variants(PRESETS["smoke"]).values():
        config = read_config("recipe", words)
        compressor = Compressor(config.compressor, tiny_reader)
        for stage in config.stages:
            objective = Objective(stage.losses, compressor, tiny_reader)
            assert list(objective.terms) == [term.name for term in stage.losses]


NAMES = ["dimension", "annealing", "transforms", "memorise", "recipe", "recipe-embeddings", "heads"]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_run_written_and_not_run_twice(name, reader_folder, tmp_path, capsys) -> None:
    words = ["experiment", name, "--run", str(tmp_path / "run"), "--preset", "smoke"]
    words += ["--reader", str(reader_folder), "--out", str(tmp_path / "out")]
    assert CONSOLE.run(words) == 0, capsys.readouterr().err
    path = tmp_path / "out" / f"smoke-latentwire-{name}.json"
    result = Ablation.read(path)
    assert result.name == name
    assert result.seconds == seconds_spent(tmp_path / "run") > 0
    assert all("f1" in numbers and "minus_text" in numbers for numbers in result.runs.values())
    if name.startswith(("recipe", "heads")):
        first = next(iter(result.runs))
        beside = Evaluation.read(path.with_stem(f"{path.stem}-{folder_name(first)}"))
        assert {"replay_raw", "pca", "unpacked_int4"} <= set(beside.rows)
    before = path.read_bytes()
    stamps = {each: each.stat().st_mtime_ns for each in tmp_path.rglob("evaluation.json")}
    assert CONSOLE.run(words) == 0
    assert path.read_bytes() == before
    assert {each: each.stat().st_mtime_ns for each in stamps} == stamps


def test_a_table_that_was_asked_other_questions_is_not_mixed_in(
    reader_folder, tmp_path, capsys
) -> None:
    words = ["ablate", str(tmp_path), "compressor.slots.ratio=2,4", f"reader={reader_folder}"]
    words += ["compressor.encoder.name=embeddings", "--config", "smoke", "--questions", "6"]
    assert CONSOLE.run(words) == 0
    next(iter(tmp_path.glob("*/seed-0/evaluation.json"))).unlink()
    assert CONSOLE.run([*words[:-1], "5"]) == 2
    assert "was asked other questions" in capsys.readouterr().err
    words[words.index("smoke")] = "smoke/loss_length"
    assert CONSOLE.run(words) == 2
    assert "this run was begun with" in capsys.readouterr().err


def test_capacity_is_measured_once_and_written(reader_folder, tmp_path, capsys) -> None:
    words = ["experiment", "capacity", "--run", str(tmp_path), "--preset", "smoke"]
    words += ["--reader", str(reader_folder)]
    assert CONSOLE.run(words) == 0
    path = tmp_path / "results/smoke-latentwire-capacity.json"
    result = json.loads(path.read_text())
    assert len(result["recall"]) == 1
    assert result["slots"] == [-(-tokens // 4) for tokens in result["tokens"]]
    assert result["steps"] <= 5
    stamp = path.stat().st_mtime_ns
    assert CONSOLE.run(words) == 0
    assert path.stat().st_mtime_ns == stamp


def test_an_unknown_table_is_told_with_the_nearest(tmp_path, capsys) -> None:
    assert CONSOLE.run(["experiment", "poolrs", "--run", str(tmp_path / "r")]) == 2
    assert "did you mean 'poolers'" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_seconds_are_of_steps_and_rows_and_leave_out_rows_taken_over(
    reader_folder, tmp_path
) -> None:
    words = ["experiment", "dimension", "--run", str(tmp_path), "--preset", "smoke"]
    assert CONSOLE.run([*words, "--reader", str(reader_folder)]) == 0
    path = next(tmp_path.rglob("evaluation.json"))
    whole, one = seconds_spent(tmp_path), Evaluation.read(path)
    steps = path.parent / "finished.json"
    steps.write_text(json.dumps({"seconds": 60.0}))
    assert seconds_spent(tmp_path) == pytest.approx(whole + 60, abs=0.1)
    content = json.loads(path.read_text())
    content["settings"]["taken_over"] = ["text"]
    path.write_text(json.dumps(content))
    text = one.rows["text"]
    spared = text.encode_seconds + text.prefill_seconds + text.decode_seconds
    assert seconds_spent(tmp_path) == pytest.approx(whole + 60 - spared, abs=0.1)
