import json
from dataclasses import replace

import pytest

from llgbm.bench import suite
from llgbm.bench.cli import CONSOLE
from llgbm.bench.delta_forward import DeltaForwardConfig, delta_forward
from llgbm.bench.suite import AllConfig, run_all
from llgbm.bench.teach import TeachConfig, teach
from llgbm.deltas.errors import LLGBMError

DELTA = DeltaForwardConfig("random:llama-tiny", "float32", n=2, p=2, t=5, r=4, repeats=1)
TEACH = TeachConfig("random:llama-tiny", "float32", n=2, sequences=1, t=8, r=4, repeats=1)


def broken(path) -> None:
    raise LLGBMError("it broke")


def test_parts_write_files_and_plots_and_a_failure_stops_no_other(tmp_path, monkeypatch, capsys):
    parts = {
        "broken": broken,
        "delta": lambda path: delta_forward(replace(DELTA, out=path)),
        "teach": lambda path: teach(replace(TEACH, out=path)),
    }
    monkeypatch.setattr(suite, "parts", lambda config: parts)
    with pytest.raises(LLGBMError, match="failures in broken"):
        run_all(AllConfig(tmp_path, "here"))
    assert json.loads((tmp_path / "here-delta.json").read_text())["suite"] == "delta-forward"
    assert (tmp_path / "plots" / "here-teach.svg").exists()
    assert "broken: it broke" in capsys.readouterr().out


def test_no_part_is_begun_when_the_time_is_over(tmp_path, monkeypatch, capsys) -> None:
    parts = {
        "teach": lambda path: teach(replace(TEACH, out=path)),
        "late": lambda path: pytest.fail("begun"),
    }
    monkeypatch.setattr(suite, "parts", lambda config: parts)
    now = iter([0.0, 0.0, 0.0, 1000.0, 1000.0])
    monkeypatch.setattr("llgbm.bench.suite.time.monotonic", lambda: next(now))
    run_all(AllConfig(tmp_path, "here", minutes=1))
    assert "late: left out" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["delta-forward", "--n", "0"], "n: expected at least 1, got 0"),
        (["delta-forward", "--p", "-1"], "p: expected at least 1, got -1"),
        (["delta-forward", "--t", "0"], "t: expected at least 1, got 0"),
        (["delta-forward", "--repeats", "0"], "repeats: expected at least 1, got 0"),
        (["delta-forward", "--seed", "-1"], "seed: expected from 0 to"),
        (["teach", "--n", "0"], "n: expected at least 1, got 0"),
        (["teach", "--t", "1"], "t: expected at least 2, got 1"),
        (["teach", "--repeats", "0"], "repeats: expected at least 1, got 0"),
        (["teach", "--seed", str(2**70)], "seed: expected from 0 to"),
        (["kernels", "--n", "4", "0"], "n: expected at least 1, got 0"),
        (["kernels", "--rows"], "rows: expected at least one, got none"),
        (["kernels", "--seed", "-1"], "seed: expected from 0 to"),
        (["generator-step", "--seed", "-1"], "seed: expected from 0 to"),
        (["latentwire", "--seed", "-1"], "seed: expected from 0 to"),
        (["generate", "--seed", "-1"], "seed: expected from 0 to"),
        (["all", "--out", "o", "--label", "a/b"], "label: expected letters, digits, dots"),
        (["all", "--out", "o", "--label", "a", "--minutes", "nan"], "minutes: expected at least 0"),
        (["all", "--out", "o", "--label", "a", "--seed", "-1"], "seed: expected from 0 to"),
    ],
)
def test_sizes_of_nothing_are_one_line(arguments, words, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CONSOLE.run(arguments) == 2
    said = capsys.readouterr().err
    assert words in said
    assert len(said.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_parts_cover_the_claims(tmp_path, monkeypatch) -> None:
    config = AllConfig(tmp_path, "x")
    monkeypatch.setattr(suite.torch.cuda, "is_available", lambda: True)
    names = list(suite.parts(config))
    assert names[0] == "kernels-target"
    assert {"delta-smollm2-135m", "delta-qwen2.5-0.5b", "delta-qwen2.5-1.5b", "teach"} < set(names)
    monkeypatch.setattr(suite.torch.cuda, "is_available", lambda: False)
    assert {"delta-smollm2-135m", "latentwire"} < set(suite.parts(config))
