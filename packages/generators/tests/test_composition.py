"""Composition on a tiny model: mixtures are trained, compared and written."""

import pytest
import torch
from torch.nn import functional as F

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import RunError
from llgbm.deltas.peft_format import load_adapter
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.experiments.composition import pairs_of
from llgbm.generators.experiments.composition_results import CompositionResults
from llgbm.generators.experiments.mixed_teachers import first_teachers, mixed_teachers
from llgbm.generators.experiments.run_composition import CompositionConfig, run_composition
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.batched import BatchedTeachers
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.training.behaviour import Behaviour

ARMS = {
    "base", "first_teacher", "second_teacher", "mixed_teacher", "average", "ties", "dare", "sum",
    "retrieved_delta_sum", "generated_mixed",
}  # fmt: skip


def test_the_experiment_compares_every_mixture(
    tiny_run, tmp_path, set_tiny_preset, monkeypatch, capsys
) -> None:
    folder = tiny_run[1]
    tiny = set_tiny_preset(validation=(), seeds=1, pairs=3)
    model, tokenizer = load_base_model(str(folder))
    config = CompositionConfig("demo", tmp_path, out=tmp_path / "out.json", base_model=str(folder))
    results = run_composition(config, model, tokenizer)
    assert CompositionResults.read(tmp_path / "out.json") == results
    assert set(results.accuracy) == set(results.mean) == set(results.retained) == ARMS
    assert set(results.accuracy["ties"]) == {"caps+digits"}
    assert set(results.over_average) == ARMS - {"average"}
    printed = capsys.readouterr().out
    assert "caps+digits" in printed
    # What is reported are the cosines of the adapters that were written.
    run = RunFolder(tmp_path)
    manifest = Manifest.read(run.manifest)
    firsts = first_teachers(manifest)
    adapters = manifest.load(run.checkpoints, [firsts["caps"], firsts["digits"]])
    mixed = load_adapter(tmp_path / "composition" / "caps+digits")
    behaviour = Behaviour.of(
        model, named_probes("generic"), DeltaSpec((-2, -1), aggregation="per_probe")
    )
    with torch.no_grad():
        deltas = behaviour(LoRAWeights.concatenate([adapters, mixed]))
    # The mean of the cosines of two layers.
    one, two, both = deltas.transpose(1, 2).flatten(2)

    def cosine(found: torch.Tensor, wanted: torch.Tensor) -> float:
        return float(F.cosine_similarity(found, wanted, dim=1).mean())

    found = results.additivity["generic"]["caps+digits"]
    assert found.with_sum == pytest.approx(cosine(both, one + two))
    assert found.with_first == pytest.approx(cosine(both, one))
    assert found.with_predicted is not None
    assert results.additivity["commonsense"]["caps+digits"].with_predicted is None
    assert found.with_second == pytest.approx(cosine(both, two))

    # A second call trains no mixture again.
    monkeypatch.setattr(BatchedTeachers, "train_step", lambda self: pytest.fail("trained again"))
    again = mixed_teachers(run, manifest, pairs_of(manifest, 3), tiny.teacher, model, tokenizer)
    assert all(torch.equal(again.lora_B[p], mixed.lora_B[p]) for p in mixed.spec.paths)


def test_results_that_are_damaged_are_named(tmp_path) -> None:
    path = tmp_path / "composition.json"
    path.write_text('{"schema": 1, "kind": "composition", "additivity": {"generic": 3}}')
    with pytest.raises(RunError, match="expected composition results"):
        CompositionResults.read(path)
    path.write_text('{"schema": 1, "kind": "ablation"}')
    with pytest.raises(RunError, match="schema and kind"):
        CompositionResults.read(path)
