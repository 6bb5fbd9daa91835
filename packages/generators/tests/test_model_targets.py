"""Mode B: fully fine-tuned models as targets."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.metrics_log import read_metrics
from llgbm.deltas.model_delta import compute_model_delta
from llgbm.deltas.probes import create_generic_probes
from llgbm.generators.cli import CONSOLE
from llgbm.generators.runs import RunFolder
from llgbm.generators.training.inputs import collect_inputs
from llgbm.generators.training.model_targets import with_model_targets

SPEC = DeltaSpec((-2, -1), aggregation="per_probe")


@pytest.fixture
def tuned(tiny_run, tmp_path) -> Path:
    """Return a folder of full models: two tuned for `caps`, one for `digits`."""
    for seed, name in enumerate(("caps_000", "caps_001", "digits"), 1):
        model, _ = load_base_model(str(tiny_run[1]))
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(tmp_path / "tuned" / name)
    return tmp_path / "tuned"


def test_targets_are_the_mean_deltas_of_each_tasks_models(tiny_run, run_copy, tuned) -> None:
    base, _ = load_base_model(str(tiny_run[1]))
    run, probes = RunFolder(run_copy), create_generic_probes()
    inputs = collect_inputs(run, probes, SPEC, 3)
    found = with_model_targets(inputs, run, tuned, probes, SPEC, "", base)
    deltas = {}
    for name in ("caps_000", "caps_001", "digits"):
        model = LlamaForCausalLM.from_pretrained(tuned / name).eval()
        deltas[name] = compute_model_delta(base, model, probes, SPEC)[0]
    caps = (deltas["caps_000"] + deltas["caps_001"]) / 2
    expected = torch.stack([caps, caps, deltas["digits"], deltas["digits"]])
    assert [entry.task for entry in found.entries] == ["caps", "caps", "digits", "digits"]
    torch.testing.assert_close(found.deltas, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.seen.deltas, expected[[0, 2]], atol=1e-6, rtol=0)
    assert not torch.allclose(inputs.deltas, expected, atol=1e-2)


def test_a_generator_learns_from_full_models_alone(run_copy, tuned) -> None:
    arguments = ["train", "--run", str(run_copy), "--name", "b", "--steps", "30"]
    arguments += ["--batch-size", "2", "--validate-every", "30", "--lr", "0.001"]
    arguments += ["--condition-texts", "1", "3", "--target-models", str(tuned)]
    assert CONSOLE.run([*arguments, "objective:delta-only"]) == 0
    records = read_metrics(run_copy / "generators" / "b" / "metrics.jsonl")
    losses = [r["computed"] for r in records if r["split"] == "train"]
    assert losses[0] == pytest.approx(1.0, abs=1e-3)
    assert min(losses[-4:]) < 0.8
    last = [r["delta_cosine"] for r in records if r["split"] == "validation"][-1]
    assert last > 0.3


def test_a_task_without_a_model_is_named(run_copy, tuned, capsys) -> None:
    (tuned / "digits").rename(tuned / "digitsy")
    arguments = ["train", "--run", str(run_copy), "--name", "b", "--steps", "2"]
    arguments += ["--target-models", str(tuned), "objective:delta-only"]
    assert CONSOLE.run(arguments) == 2
    assert "expected one in a folder digits or digits_000" in capsys.readouterr().err
    assert not (run_copy / "generators" / "b").exists()
