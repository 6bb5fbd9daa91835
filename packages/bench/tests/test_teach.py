from dataclasses import replace

import pytest

from llgbm.bench.errors import GateError
from llgbm.bench.models import bench_model
from llgbm.bench.teach import TeachConfig, TeachWorkload, teach
from llgbm.deltas.graphed import factors_of

TINY = TeachConfig("random:llama-tiny", "float32", n=3, sequences=2, t=8, r=4, repeats=2)


def test_a_step_of_all_teachers_is_timed_against_peft(tmp_path) -> None:
    results = teach(replace(TINY, out=tmp_path / "teach.json"))
    assert set(results["rows"]) == {"batched", "peft_loop", "base_alone"}
    assert results["rows"]["batched"]["relative_error"] < 1e-5
    assert (tmp_path / "teach.json").exists()


def test_both_ways_take_the_same_steps() -> None:
    workload = TeachWorkload(bench_model(TINY.model, TINY.dtype, 0), TINY)
    for _ in range(3):
        workload.batched()
        workload.peft_loop()
    for i in range(TINY.n):
        for mine, theirs, start in zip(
            factors_of(workload.stacked),
            workload.alone[i],
            factors_of(workload.weights),
            strict=True,
        ):
            moved = (theirs - start[i]).norm()
            assert moved > 0
            # AdamW turns rounding in tiny gradients into whole steps of single entries.
            assert (mine[i] - theirs).norm() <= 0.02 * moved


def test_other_gradients_trip_the_gate(monkeypatch) -> None:
    monkeypatch.setattr(TeachWorkload, "gradient_error", lambda self: 0.5)
    monkeypatch.setattr("llgbm.bench.teach.interleaved", lambda *a: pytest.fail("timed"))
    with pytest.raises(GateError, match="batched: relative error"):
        teach(TINY)
