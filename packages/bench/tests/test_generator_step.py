"""Steps of every objective are timed, behind a check of the two ways to compute deltas."""

from dataclasses import replace

import pytest
import torch

from llgbm.bench.errors import GateError
from llgbm.bench.generate import GenerateConfig, generate
from llgbm.bench.generator_step import (
    OBJECTIVES,
    SEED,
    GeneratorStepConfig,
    check,
    generator_step,
    over_cycle,
)
from llgbm.bench.generator_workload import GeneratorWorkload, HookedBehaviour
from llgbm.bench.models import bench_model
from llgbm.bench.report import ReportConfig, report
from llgbm.bench.timing import Timing
from llgbm.deltas.errors import SettingError

TINY = GeneratorStepConfig(
    "random:llama-tiny", "float32", n=2, p=2, t=6, r=2, codes=2, examples=2, repeats=2
)


def test_every_objective_is_timed_and_the_seeds_way_beside_them(tmp_path) -> None:
    rows = generator_step(replace(TINY, out=tmp_path / "step.json"))["rows"]
    assert set(rows) == {"base_alone", SEED, *OBJECTIVES}
    assert rows[SEED]["relative_error"] < 1e-5
    assert rows["weights_only"]["base_share"] == rows["weights_only"]["tokens_per_s"] == 0
    assert rows["delta_guided_n5_sft"]["base_share"] > rows["delta_guided_n5"]["base_share"]
    shares = [rows[f"delta_guided_n{n}"]["base_share"] for n in (1, 5, 20)]
    assert 1 >= shares[0] > shares[1] > shares[2] > 0
    assert all(row["peak_mib"] > 0 for row in rows.values())
    assert report(ReportConfig(tmp_path, tmp_path / "plots"))


def test_a_cycle_is_weighed_by_its_steps() -> None:
    assert over_cycle(Timing(10, 8, 12), Timing(2, 1, 3), 5).median_ms == pytest.approx(3.6)
    assert over_cycle(Timing(10, 8, 12), None, 1) == Timing(10, 8, 12)


def test_steps_move_the_generator_and_other_deltas_trip_the_gate(monkeypatch) -> None:
    model = bench_model(TINY.model, TINY.dtype, 0)
    workload = GeneratorWorkload(model, 2, 2, 6, 2, 2, 2, 0)
    before = workload.generator.decoder.gain_B.weight.clone()
    for objective in (cycle.objective for cycle in OBJECTIVES.values()):
        workload.step(objective, 0, workload.behaviour)
    assert not torch.equal(before, workload.generator.decoder.gain_B.weight)
    assert check(workload) < 1e-5
    plain = HookedBehaviour.__call__
    monkeypatch.setattr(HookedBehaviour, "__call__", lambda self, w: 1.5 * plain(self, w))
    with pytest.raises(GateError):
        check(workload)


def test_adapters_are_generated_together_and_one_by_one(tmp_path) -> None:
    config = GenerateConfig("random:llama-tiny", n=4, r=2, codes=2, repeats=2)
    rows = generate(replace(config, out=tmp_path / "generate.json"))["rows"]
    assert set(rows) == {"batched", "one_by_one", "written_to_disk"}
    assert rows["batched"]["relative_error"] < 1e-4
    assert all(row["adapters_per_s"] > 0 for row in rows.values())
    assert report(ReportConfig(tmp_path, tmp_path / "plots"))


def test_sizes_of_nothing_are_refused() -> None:
    for make, words in (
        (lambda: GeneratorStepConfig(n=0), "n: expected at least 1"),
        (lambda: GeneratorStepConfig(t=2), "t: expected at least 3"),
        (lambda: GenerateConfig(repeats=0), "repeats: expected at least 1"),
    ):
        with pytest.raises(SettingError, match=words):
            make()
    assert generate(GenerateConfig("random:llama-tiny", n=1, r=2, codes=2, repeats=1))["rows"]
