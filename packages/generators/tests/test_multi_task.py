"""The multi-task baseline: all training teachers' examples, once a run, resumable."""

import json
import shutil

import pytest
import torch

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import RunError
from llgbm.generators.evaluation import multi_task
from llgbm.generators.evaluation.multi_task import multi_task_adapter
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.batched import BatchedTeachers
from llgbm.generators.teachers.manifest import Manifest


@pytest.fixture
def arguments(tiny_run, tmp_path):
    """Arguments of `multi_task_adapter` in a copy of the tiny run."""
    shutil.copytree(tiny_run[0], tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    shutil.rmtree(run.root / "baselines", ignore_errors=True)
    manifest = Manifest.read(run.manifest)
    spec = manifest.load(run.checkpoints, manifest.of_split("train")[:1]).spec
    return run, manifest, spec, *load_base_model(str(tiny_run[1]))


def test_it_learns_from_all_training_tasks_and_no_held_out_one(arguments, monkeypatch) -> None:
    run = arguments[0]
    seen: list[str] = []
    init = BatchedTeachers.__init__

    def spying(self, model, tokenizer, shards, initial, optim, seed) -> None:
        seen.extend(example.query for shard in shards for example in shard.examples)
        assert optim.steps == 2 * 6
        init(self, model, tokenizer, shards, initial, optim, seed)

    monkeypatch.setattr(BatchedTeachers, "__init__", spying)
    weights = multi_task_adapter(*arguments, factor=2)
    assert weights.n == 1
    assert {query.split()[0] for query in seen} == {"caps", "digits"}
    assert any(factor.any() for factor in weights.lora_B.values())
    content = json.loads((run.root / "baselines" / "multi_task" / "baseline.json").read_text())
    assert content["examples"] == len(seen)


def test_it_is_trained_once_and_again_for_another_budget(arguments, monkeypatch) -> None:
    steps, train_step = [], BatchedTeachers.train_step

    def counted(self):
        steps.append(1)
        return train_step(self)

    monkeypatch.setattr(BatchedTeachers, "train_step", counted)
    first = multi_task_adapter(*arguments, factor=1)
    again = multi_task_adapter(*arguments, factor=1)
    assert len(steps) == 6
    path = first.spec.paths[0]
    assert first.spec == again.spec
    assert torch.equal(first.lora_B[path], again.lora_B[path])
    multi_task_adapter(*arguments, factor=2)
    assert len(steps) == 6 + 12


def test_an_interrupted_training_goes_on_bitwise(arguments, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(multi_task, "SAVE_EVERY", 2)
    straight = multi_task_adapter(*arguments, factor=1)
    shutil.rmtree(arguments[0].root / "baselines")
    train_step, calls = BatchedTeachers.train_step, []

    def interrupted(self):
        calls.append(self.step)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return train_step(self)

    monkeypatch.setattr(BatchedTeachers, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        multi_task_adapter(*arguments, factor=1)
    resumed = multi_task_adapter(*arguments, factor=1)
    assert calls == [0, 1, 2, 3, 4, 5, 4, 5]
    for path in straight.spec.paths:
        assert torch.equal(straight.lora_A[path], resumed.lora_A[path])
        assert torch.equal(straight.lora_B[path], resumed.lora_B[path])
    assert not list((arguments[0].root / "baselines").glob(".*"))


def test_a_manifest_without_an_optimiser_is_named(arguments) -> None:
    run, manifest, *rest = arguments
    bare = Manifest(manifest.base_model, manifest.base_fingerprint, {"seed": 0}, manifest.adapters)
    with pytest.raises(RunError, match="manifest.json: settings: expected the teachers' optimiser"):
        multi_task_adapter(run, bare, *rest, factor=1)
