"""The sideways benchmark fits what it makes, in a process of its own."""

import json

import pytest

from llgbm.bench import sideways as suite
from llgbm.bench.cli import CONSOLE
from llgbm.bench.errors import NothingLearnedError
from llgbm.bench.report import ReportConfig, report
from llgbm.bench.result_files import read_results
from llgbm.bench.sideways import SidewaysConfig, sideways


def test_a_small_collection_is_fitted_and_its_memory_measured(tmp_path, capsys) -> None:
    config = SidewaysConfig(
        12, 5, blocks=2, side=160, steps=300, folder=tmp_path, out=tmp_path / "x.json"
    )
    results = sideways(config)
    assert results["checkpoints"] == 60
    assert results["numbers"] == 2 * 160 * 160
    assert results["weights_mib"] == pytest.approx(60 * 2 * 160 * 160 * 4 / 2**20)
    assert results["r2"] > 0.5
    assert 50 < results["process_mib"] < 8192
    assert results["rows"]["read"]["times_base"] == 1
    assert read_results(tmp_path / "x.json") == json.loads((tmp_path / "x.json").read_text())
    assert json.loads((tmp_path / "x.json").read_text())["suite"] == "sideways"
    assert "largest size of the process" in capsys.readouterr().out
    (plot,) = report(ReportConfig(tmp_path, tmp_path / "plots"))
    assert "collect" in plot.read_text()
    # Nothing else stays.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plots", "x.json"]


def test_what_predicts_nothing_is_not_reported(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(suite, "LEAST_R2", 1.1)
    with pytest.raises(NothingLearnedError, match="expected at least 1.1"):
        sideways(SidewaysConfig(5, 2, blocks=1, steps=2, folder=tmp_path))


def test_mistakes_are_told(capsys) -> None:
    assert CONSOLE.run(["sideways", "--runs", "4"]) == 2
    assert "runs: expected at least 5, got 4" in capsys.readouterr().err
