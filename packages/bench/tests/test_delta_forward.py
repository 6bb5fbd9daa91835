import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llgbm.bench.compare import CompareConfig, compare
from llgbm.bench.delta_forward import DeltaForwardConfig, delta_forward
from llgbm.bench.errors import GateError
from llgbm.bench.models import bench_model
from llgbm.bench.rivals import OURS, RIVALS, Outcome, Workload
from llgbm.bench.timing import interleaved
from llgbm.deltas.errors import ModelError, RunError

TINY = DeltaForwardConfig("random:llama-tiny", "float32", n=3, p=2, t=5, r=4, repeats=2)

ROWS = {*RIVALS, "base_alone", "base_alone_short_attention"} | {
    f"{name}_short_attention" for name in set(RIVALS) - OURS
}


def test_all_rivals_agree_in_float32_and_are_timed() -> None:
    rows = delta_forward(TINY)["rows"]
    assert set(rows) == ROWS
    assert all(
        row["relative_error"] < 1e-5 for name, row in rows.items() if not name.startswith("base")
    )
    assert all(0 < row["low_ms"] <= row["median_ms"] <= row["high_ms"] for row in rows.values())


def test_where_attention_is_not_short_every_rival_has_one_row(monkeypatch) -> None:
    monkeypatch.setattr("llgbm.deltas.short_attention.SHORT", 4)
    assert set(delta_forward(TINY)["rows"]) == {*RIVALS, "base_alone"}


def test_a_wrong_rival_trips_the_gate_and_nothing_is_timed(monkeypatch) -> None:
    def wrong(workload: Workload) -> Outcome:
        states, gradients = workload.batched()
        return states, [1.01 * gradient for gradient in gradients]

    monkeypatch.setattr(
        "llgbm.bench.delta_forward.interleaved", lambda *a: pytest.fail("timed despite the gate")
    )
    with pytest.raises(GateError, match="wrong: relative error"):
        delta_forward(TINY, {**RIVALS, "wrong": wrong})


def test_results_are_written_and_compared(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        delta_forward(replace(TINY, out=file))
    assert json.loads(files[0].read_text())["environment"]["seed"] == 0
    assert set(compare(CompareConfig(*files))) == ROWS
    delta_forward(replace(TINY, n=2, out=files[1]))
    with pytest.raises(RunError, match="config: expected"):
        compare(CompareConfig(*files))


def test_rivals_take_turns() -> None:
    order: list[str] = []
    interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, repeats=2)
    assert order == ["a", "b"] * 3


def test_an_unknown_shape_is_named() -> None:
    with pytest.raises(ModelError, match="random:nope"):
        bench_model("random:nope", "float32", 0)


def test_random_models_are_seeded() -> None:
    first, second = (bench_model("random:llama-tiny", "float32", 1) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
