"""The main job on a tiny model: each command, what it writes, and what it refuses."""

import json
import logging
import shutil
import warnings

import pytest
import torch
from peft import PeftModel

from llgbm.deltas.cli import CONSOLE as DELTAS
from llgbm.deltas.errors import RunError
from llgbm.deltas.fingerprint import adapter_fingerprint
from llgbm.deltas.metrics_log import MetricsLog, read_metrics
from llgbm.deltas.peft_format import load_adapter
from llgbm.generators.cli import CONSOLE
from llgbm.generators.demo import Stages
from llgbm.generators.evaluation.results import Results
from llgbm.generators.runs import RunFolder


def test_a_generated_adapter_loads_in_peft_without_a_warning(
    tiny_run, tmp_path, caplog, make_tiny_model
) -> None:
    run = tiny_run[0]
    out = tmp_path / "adapter"
    arguments = ["generate", "Say caps", "--generator", str(run), "--out", str(out)]
    assert CONSOLE.run(arguments) == 0
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        # PEFT reads a property that transformers has since renamed: nothing of the adapter's.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        wrapped = PeftModel.from_pretrained(make_tiny_model(), str(out))
    assert not caplog.records
    written = load_adapter(out)
    layer = dict(wrapped.named_modules())["base_model.model.model.layers.1.mlp.up_proj"]
    assert torch.equal(
        layer.lora_B["default"].weight, written.lora_B["model.layers.1.mlp.up_proj"][0]
    )
    assert json.loads((out / "condition.json").read_text())["texts"] == ["Say caps"]


def test_another_text_gives_another_adapter_and_the_same_text_the_same(tiny_run, tmp_path):
    prints = []
    for number, text in enumerate(("Say caps", "Say caps", "digits 3:")):
        out = tmp_path / str(number)
        arguments = ["generate", text, "--generator", str(tiny_run[0]), "--out", str(out)]
        assert CONSOLE.run(arguments) == 0
        prints.append(adapter_fingerprint(load_adapter(out)))
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected a text such as"),
        (["  "], "expected a text such as"),
        (["x", "--generator", "nowhere"], "run `llgbm train`"),
        (["x", "--prompts", "p.txt"], "got both"),
        (["--prompts", "p.txt"], "p.txt: No such file"),
        (["caf\udce9"], "condition: texts: expected UTF-8, got 'caf\\udce9'"),
    ],
)
def test_generate_refuses_what_it_cannot_do(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert CONSOLE.run(["generate", *arguments, "--out", "o"]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_generate_does_not_overwrite_unless_told(tiny_run, tmp_path, capsys) -> None:
    out = tmp_path / "adapter"
    arguments = ["generate", "x", "--generator", str(tiny_run[0]), "--out", str(out)]
    assert CONSOLE.run(arguments) == 0
    assert CONSOLE.run(arguments) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert CONSOLE.run([*arguments, "--overwrite"]) == 0
    (out / "adapter_config.json").unlink()
    assert CONSOLE.run([*arguments, "--overwrite"]) == 2
    assert "expected an adapter to overwrite" in capsys.readouterr().err


def test_the_report_is_one_file_that_fetches_nothing(tiny_run) -> None:
    html = RunFolder(tiny_run[0]).report.read_text()
    assert html.count("<svg") == 6
    assert "src=" not in html
    assert "<link" not in html
    assert "generated from prompts" in html


@pytest.mark.parametrize(
    ("missing", "command", "words"),
    [
        ("checkpoints/manifest.json", "evaluate", "run `llgbm teach` first"),
        ("checkpoints/deltas/manifest.json", "evaluate", "run `llgbm-deltas compute` again"),
        ("generators", "evaluate", "run `llgbm train`"),
        ("evaluation", "report", "run `llgbm evaluate` first"),
        ("checkpoints/caps/caps_000/prompts.json", "evaluate", "prompts.json: not found"),
        ("checkpoints/caps/caps_001/adapter_model.safetensors", "evaluate", "not found"),
    ],
)
def test_a_missing_part_is_named_with_the_command_that_makes_it(
    run_copy, missing, command, words, capsys
) -> None:
    path = run_copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert CONSOLE.run([command, "--run", str(run_copy)]) == 2
    printed = capsys.readouterr().err
    assert words in printed.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        ("checkpoints/manifest.json", "manifest.json: line"),
        ("generators/generator/config.json", "config.json: line"),
        ("generators/generator/generator.safetensors", "not a whole safetensors file"),
        ("checkpoints/digits/digits_000/adapter_model.safetensors", "a whole safetensors file"),
    ],
)
def test_a_half_written_part_is_named(run_copy, damaged, words, capsys) -> None:
    path = run_copy / damaged
    path.write_bytes(path.read_bytes()[:200])
    assert CONSOLE.run(["evaluate", "--run", str(run_copy)]) == 2
    assert words in capsys.readouterr().err


def test_training_needs_the_delta_cache(run_copy, train_command, capsys) -> None:
    shutil.rmtree(run_copy / "checkpoints" / "deltas")
    assert CONSOLE.run(train_command(run_copy, "new")) == 2
    assert "llgbm-deltas compute" in capsys.readouterr().err
    assert not (run_copy / "generators" / "new").exists()


def test_a_second_compute_reuses_everything(tiny_run, capsys) -> None:
    assert DELTAS.run(["compute", str(tiny_run[0] / "checkpoints")]) == 0
    assert "0 computed, 6 reused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "arc_esy"], "nearest: arc_easy"),
        (["--tasks", "missing.json"], "missing.json: not found"),
        (["--tasks", "sciq", "--base-model", "smolm2"], "nearest: smollm2-135m"),
        (["--tasks", "sciq", "--r", "0"], "r: expected at least 1, got 0"),
        (["--tasks", "sciq", "--optim.steps", "0"], "steps: expected at least 1, got 0"),
        (["--tasks", "sciq", "--teachers-per-task", "0"], "teachers_per_task: expected at least"),
        (["--tasks", "sciq", "--held-out", "sciq"], "held_out: expected tasks not among"),
    ],
)
def test_unknown_names_are_one_line(arguments, words, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CONSOLE.run(["teach", "--run", "r", *arguments]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_settings_that_fit_nothing_leave_no_generator_behind(run_copy, capsys) -> None:
    for more, words in (
        (["--name", "x", "--steps", "0"], "steps: expected at least 1"),
        (["--name", "../../x"], "name: expected letters"),
        (["--name", "x", "--encoder", "nope"], "encoder"),
        (["--name", "x", "--condition-texts", "3", "1"], "condition_texts: expected smallest"),
    ):
        assert CONSOLE.run(["train", "--run", str(run_copy), *more]) == 2
        assert words in capsys.readouterr().err
    assert not (run_copy / "generators" / "x").exists()
    for more, words in (
        (["--examples", "0"], "examples: expected at least 1, got 0"),
        (["--held-out-probes", "nope"], "probes: expected generic"),
    ):
        assert CONSOLE.run(["evaluate", "--run", str(run_copy), *more]) == 2
        assert words in capsys.readouterr().err


def test_own_tasks_without_descriptions_and_of_one_family_run_to_the_end(
    tiny_run, tmp_path, teach_command, train_command
) -> None:
    rows = [
        {"query": f"{word} {i}", "choices": ["yes", "no"], "gold": i % 2}
        for i in range(30)
        for word in ("one", "two")
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run, own = tmp_path / "run", str(tmp_path / "own.jsonl")
    teach = teach_command(run, tiny_run[1], [own, own, own])
    start = teach.index("--tasks")
    teach = [*teach[: start + 2], *teach[teach.index("--held-out") + 2 :]]
    assert CONSOLE.run(teach) == 0
    assert DELTAS.run(["compute", str(run / "checkpoints")]) == 0
    assert CONSOLE.run(train_command(run, "generator")) == 0
    assert CONSOLE.run(["evaluate", "--run", str(run), "--examples", "6"]) == 0
    assert CONSOLE.run(["report", "--run", str(run)]) == 0
    results = Results.read(RunFolder(run).results)
    assert "generated_shuffled" not in results.accuracy["seen"]
    assert results.metrics["seen.condition_sensitivity"] is None
    assert results.scale.endswith("1 own tasks")


def test_a_full_disk_loses_nothing(run_copy, train_command, monkeypatch, capsys) -> None:
    import errno
    import os

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "state.safetensors")

    monkeypatch.setattr(os, "fsync", full)
    assert CONSOLE.run(train_command(run_copy, "new")) == 2
    assert "disk full" in capsys.readouterr().err.strip().splitlines()[-1]
    monkeypatch.undo()
    assert CONSOLE.run(train_command(run_copy, "new")) == 0
    assert not [path for path in run_copy.rglob("*") if ".tmp-" in path.name]


def test_a_log_cut_short_by_a_crash_goes_on(tmp_path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    log = MetricsLog(file, steps_done=2)
    log.write({"step": 3, "again": True})
    assert read_metrics(file) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        (None, "metadata: base_model: expected a string, got None"),
        (
            {"base_model": "x", "base_fingerprint": 5},
            "metadata: base_fingerprint: expected a string",
        ),
    ],
)
def test_a_generator_without_its_base_is_named(run_copy, tmp_path, metadata, words, capsys) -> None:
    file = run_copy / "generators" / "generator" / "config.json"
    content = json.loads(file.read_text()) | {"metadata": metadata}
    if metadata is None:
        del content["metadata"]
    file.write_text(json.dumps(content))
    arguments = ["generate", "x", "--generator", str(run_copy), "--out", str(tmp_path / "out")]
    assert CONSOLE.run(arguments) == 2
    assert f"config.json: {words}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("evaluation/answers.json", "{}", "answers.json: answers: expected a list"),
        ("evaluation/answers.json", '{"answers": [5]}', "answers.0: expected an object with"),
        ("generators/generator/metrics.jsonl", "5\n", "line 1: expected an object with a whole"),
        ("generators/generator/metrics.jsonl", '{"step": 1}\n', "step 1: split: expected a string"),
        (
            "generators/generator/metrics.jsonl",
            '{"step": 1, "split": "train", "loss": "low"}\n',
            "step 1: loss: expected a finite number, got 'low'",
        ),
    ],
)
def test_a_report_of_what_is_damaged_names_it(run_copy, file, text, words, capsys) -> None:
    (run_copy / file).write_text(text)
    assert CONSOLE.run(["report", "--run", str(run_copy)]) == 2
    assert words in capsys.readouterr().err


def test_seconds_of_a_demo_are_numbers(tmp_path) -> None:
    (tmp_path / "seconds.json").write_text('{"load": "x"}')
    with pytest.raises(RunError, match="seconds.json: load: expected a finite number, got 'x'"):
        Stages(RunFolder(tmp_path), 7)
