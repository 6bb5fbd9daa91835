import json
from dataclasses import replace

import pytest

from llgbm.bench import suite
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


def test_the_parts_cover_the_claims(tmp_path, monkeypatch) -> None:
    config = AllConfig(tmp_path, "x")
    monkeypatch.setattr(suite.torch.cuda, "is_available", lambda: True)
    names = list(suite.parts(config))
    assert names[0] == "kernels-target"
    assert {"delta-smollm2-135m", "delta-qwen2.5-0.5b", "delta-qwen2.5-1.5b", "teach"} < set(names)
    monkeypatch.setattr(suite.torch.cuda, "is_available", lambda: False)
    assert "delta-smollm2-135m" in suite.parts(config)
