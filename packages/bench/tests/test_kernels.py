import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from llgbm.bench import kernels as suite
from llgbm.bench.compare import CompareConfig, compare
from llgbm.bench.errors import GateError
from llgbm.bench.kernels import KernelsConfig, gate, kernels
from llgbm.bench.layer import GROUPS, make_layer
from llgbm.bench.layer_rivals import (
    eager_bmm,
    grouped_mm,
    inplace_baddbmm,
    layer_rivals,
    one_at_a_time,
)
from llgbm.bench.report import ReportConfig, report
from llgbm.bench.roofline import Roofline, layer_needs, measure_roofline
from llgbm.deltas.errors import ModelError, RunError

CPU = torch.device("cpu")
TINY = KernelsConfig(("tiny",), (1, 3), (5,), (4,), "float32", repeats=2)


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(suite, "measure_roofline", lambda *a: Roofline(10.0, 0.1))


def test_every_rival_passes_the_gate_in_float32() -> None:
    layer = make_layer("tiny", 3, 7, 4, torch.float32, CPU, 0)
    rivals = layer_rivals(CPU, torch.float32, compile_too=False)
    errors = gate(layer, rivals, torch.float32)
    assert set(errors) == set(rivals)
    assert max(errors.values()) < 1e-6


def test_bfloat16_errors_are_rounding() -> None:
    layer = make_layer("tiny", 3, 7, 8, torch.bfloat16, CPU, 0)
    errors = gate(layer, layer_rivals(CPU, torch.bfloat16, False), torch.bfloat16)
    assert max(errors.values()) < 1e-2


@pytest.mark.parametrize("rival", [inplace_baddbmm, one_at_a_time])
def test_torch_rivals_are_the_plain_one_written_otherwise(rival) -> None:
    layer = make_layer("tiny", 2, 6, 4, torch.float32, CPU, 1)
    for group in layer.groups:
        for mine, plain in zip(
            rival(group, layer.scaling), eager_bmm(group, layer.scaling), strict=True
        ):
            torch.testing.assert_close(mine, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_grouped_mm_is_the_plain_one_written_otherwise() -> None:
    layer = make_layer("tiny", 2, 16, 8, torch.bfloat16, torch.device("cuda"), 1)
    for group in layer.groups:
        for mine, plain in zip(
            grouped_mm(group, layer.scaling), eager_bmm(group, layer.scaling), strict=True
        ):
            torch.testing.assert_close(mine, plain, atol=5e-2, rtol=5e-2)


def test_a_wrong_rival_stops_the_run_before_it_is_timed(monkeypatch) -> None:
    def wrong(group, scaling):
        return [1.001 * y for y in eager_bmm(group, scaling)]

    monkeypatch.setattr(suite, "layer_rivals", lambda *a: {"eager_bmm": eager_bmm, "wrong": wrong})
    monkeypatch.setattr(suite, "graph_interleaved", lambda *a: pytest.fail("timed"))
    with pytest.raises(GateError, match="wrong: relative error: expected at most 1e-05"):
        kernels(TINY)


def test_ours_may_not_be_twice_as_far_off_as_plain_torch(monkeypatch) -> None:
    def rough(group, scaling):
        return [y * (1 + 4e-6) for y in eager_bmm(group, scaling)]

    rivals = {"eager_bmm": eager_bmm, "ours_rough": rough}
    monkeypatch.setattr(suite, "layer_rivals", lambda *a: rivals)
    with pytest.raises(GateError, match="ours_rough"):
        kernels(TINY)


def test_results_hold_all_cases_and_are_compared_and_drawn(tmp_path: Path) -> None:
    files = [tmp_path / "a.json", tmp_path / "b.json"]
    for file in files:
        kernels(replace(TINY, out=file))
    content = json.loads(files[0].read_text())
    assert [(case["n"], case["rows"]) for case in content["cases"]] == [(1, 5), (3, 5)]
    row = content["cases"][1]["rivals"]["ours_torch"]
    assert row["low_ms"] <= row["median_ms"] <= row["high_ms"]
    assert {"tokens_per_s", "adapters_per_s", "roofline_share", "peak_mib", "error"} <= set(row)
    assert "median_ms" not in content["cases"][0]["rivals"]["peft_mixed_batch"]
    ratios = compare(CompareConfig(*files))
    assert "tiny n=3 rows=5 r=4 ours_torch" in ratios
    drawn = report(ReportConfig(tmp_path, tmp_path / "plots"))
    assert [path.name for path in drawn] == ["a.svg", "b.svg"]
    assert "times the base alone" in drawn[0].read_text()


def test_bad_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="got .'gpt5'."):
        kernels(replace(TINY, shapes=("gpt5",)))
    with pytest.raises(RunError, match="got none"):
        report(ReportConfig(tmp_path, tmp_path))
    (tmp_path / "x.json").write_text('{"suite": "other", "environment": {}}')
    with pytest.raises(RunError, match="got 'other'"):
        report(ReportConfig(tmp_path, tmp_path))


def test_the_groups_cover_a_decoder_layer() -> None:
    layer = make_layer("qwen2.5-0.5b", 1, 2, 4, torch.float32, CPU, 0)
    assert [len(group.weights) for group in layer.groups] == [len(names) for names in GROUPS]
    assert layer.groups[0].biases[0] is not None
    assert layer.groups[1].biases == (None,)


def test_needs_agree_with_the_published_roofline() -> None:
    # 5120 rows, r 16: the base forward of Qwen2.5-0.5B's linears is 152.7 GFLOP, LoRA's forward
    # and backward 3.75 and 7.5.
    layer = make_layer("qwen2.5-0.5b", 1, 1, 1, torch.bfloat16, CPU, 0)
    flop, size = layer_needs(layer.widths, 8, 640, 16, 2)
    assert abs(flop / 1e9 - (2 * 152.7 + 3.75 + 7.5)) < 1
    assert size > 2 * 264e6


def test_the_roofline_is_measured() -> None:
    found = measure_roofline(CPU, torch.float32)
    assert found.copy_gb_per_s > 0.1
    assert found.matmul_tflop_per_s > 1e-4
    assert Roofline(1.0, 1.0).least_ms(1e12, 1e6) == 1000.0
    assert Roofline(1.0, 1.0).least_ms(1e6, 1e9) == 1000.0
