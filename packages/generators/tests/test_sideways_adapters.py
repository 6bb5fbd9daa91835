"""Adapter runs: each has its own learning rate, and metrics mean what they say."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from llgbm.deltas.errors import RunError, SettingError, TaskError
from llgbm.deltas.peft_format import load_adapter, save_adapter
from llgbm.deltas.spec import ALL_LINEAR, LoRASpec
from llgbm.deltas.task import Example
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.runs import RunFolder
from llgbm.generators.sideways.adapters.blocks import blocks_of, from_blocks, to_blocks
from llgbm.generators.sideways.adapters.collect import collect_adapters, load_adapters
from llgbm.generators.sideways.adapters.hyperparameters import HyperparameterRanges
from llgbm.generators.sideways.adapters.source import AdapterRuns, AdapterWorld
from llgbm.generators.sideways.adapters.taught import collect_taught
from llgbm.generators.sideways.adapters.teach import checkpoint_file, mixed
from llgbm.generators.sideways.collection.collection import Collection
from llgbm.generators.sideways.experiment.trajectories import end_errors, unseen_trajectories
from llgbm.generators.sideways.model.config import SidewaysTraining
from llgbm.generators.sideways.predict import agreement_on_test_runs, predict_file
from llgbm.generators.sideways.train import fit_sideways
from llgbm.generators.teachers.batched import BatchedTeachers, TeacherOptim
from llgbm.generators.teachers.shards import Shard
from llgbm.generators.teachers.teach import TeachConfig, teach


@pytest.fixture
def world(make_tiny_model, tokenizer, tiny_adapter_runs):
    return AdapterWorld.of(tiny_adapter_runs, make_tiny_model(), tokenizer)


def test_hyperparameters_fill_their_ranges() -> None:
    ranges = HyperparameterRanges()
    drawn = ranges.draw(10, seed=0)
    assert drawn == ranges.draw(10, seed=0)
    assert drawn != ranges.draw(10, seed=1)
    # One in every tenth of the range.
    tenths = sorted(int(10 * each.replay / ranges.replay_high) for each in drawn)
    assert tenths == list(range(10))
    assert all(ranges.lr_low <= each.lr <= ranges.lr_high for each in drawn)
    assert all(16 <= each.examples <= 256 for each in drawn)


@pytest.mark.parametrize(
    "words",
    [{"lr_low": 0.0}, {"lr_high": 1e-5}, {"replay_high": 1.0}, {"examples_high": 8}],
)
def test_ranges_that_cannot_be_are_refused(words) -> None:
    with pytest.raises(SettingError):
        HyperparameterRanges(**words)


def test_replayed_examples_have_their_share() -> None:
    own = [Example(f"q{i}", ("a", "b"), 0) for i in range(12)]
    replayed = [Example(f"r{i}", ("c",), 0) for i in range(3)]
    found = mixed(own, replayed, 0.25)
    assert len(found) == 16
    assert sum(each in replayed for each in found) == 4
    assert mixed(own, replayed, 0.0) == tuple(own)


def test_a_learning_rate_of_ones_own_is_that_of_a_training_alone(
    make_tiny_model, tokenizer
) -> None:
    model = make_tiny_model()
    examples = tuple(Example(f"word {i}:", (" yes", " no"), i % 2) for i in range(12))
    shards = [Shard(name, "t", "t", "train", examples) for name in ("a", "b")]
    spec = LoRASpec.from_model(model, 4, 8.0, ALL_LINEAR)
    initial = LoRAWeights.initial(spec, 2, torch.Generator().manual_seed(0))
    base = {"steps": 3, "examples_per_step": 4, "warmup_steps": 0, "weight_decay": 0.1}
    both = BatchedTeachers(
        model, tokenizer, shards, initial, TeacherOptim(lr=4e-3, **base), 0, [1.0, 0.25]
    )
    alone = BatchedTeachers(
        model, tokenizer, shards[1:], initial.select([1]), TeacherOptim(lr=1e-3, **base), 0
    )
    for _ in range(3):
        both.train_step()
        alone.train_step()
    for path in spec.paths:
        # AdamW divides by a small second moment: rounding grows from 1e-7 to this.
        torch.testing.assert_close(
            both.weights.lora_B[path][1], alone.weights.lora_B[path][0], atol=2e-5, rtol=1e-3
        )
    assert not torch.allclose(both.weights.lora_B[path][0], both.weights.lora_B[path][1])
    with pytest.raises(ValueError, match="lr_scale: expected 2 numbers, got 1"):
        BatchedTeachers(model, tokenizer, shards, initial, TeacherOptim(**base), 0, [1.0])


def test_an_adapter_that_changes_nothing_gains_nothing_and_keeps_all(world) -> None:
    found = world.meter().measure(LoRAWeights.zeros(world.spec, 2))
    for each in found:
        assert each["gain"] == pytest.approx(0, abs=1e-5)
        assert each["retention"] == pytest.approx(0, abs=1e-5)
    moved = LoRAWeights.initial(world.spec, 1, torch.Generator().manual_seed(0)).map(
        lambda factor: factor + 0.2
    )
    assert world.meter().measure(moved)[0]["retention"] < -1e-3


def test_an_adapter_is_measured_once_wherever_it_stands(world, monkeypatch) -> None:
    weights = LoRAWeights.initial(world.spec, 3, torch.Generator().manual_seed(0)).map(
        lambda factor: factor + torch.rand(3, 1, 1, generator=torch.Generator().manual_seed(1))
    )
    expected = world.meter().measure(weights)
    meter, seen = world.meter(), []
    plain = meter._observe
    monkeypatch.setattr(meter, "_observe", lambda part: seen.append(part.n) or plain(part))
    places = [2, 0, 2, 0]
    for found, place in zip(meter.measure(weights.select(places)), places, strict=True):
        assert found == pytest.approx(expected[place], rel=1e-4, abs=1e-6)
    assert meter.measure(weights)[1] == pytest.approx(expected[1], rel=1e-4, abs=1e-6)
    assert seen == [2, 1]


def test_accuracy_on_others_is_that_of_their_examples(world) -> None:
    from llgbm.generators.evaluation.multiple_choice import score_choices

    meter = world.meter()
    weights = LoRAWeights.initial(world.spec, 2, torch.Generator().manual_seed(0)).map(
        lambda factor: factor + 0.3
    )
    found = [each["accuracy_on_others"] for each in meter.measure(weights)]
    right = score_choices(world.model, world.tokenizer, meter.others, weights).correct()
    assert found == pytest.approx(right.float().mean(1).tolist())


def test_what_is_measured_at_the_end_was_not_chosen_by(world) -> None:
    first, second = world.meter(), world.meter("test")
    assert set(first.examples).isdisjoint(second.examples)
    assert set(first.others).isdisjoint(second.others)
    assert len(first.examples) == len(second.examples) == world.runs.scored
    assert set(world.texts.measured.texts).isdisjoint(world.texts.tested.texts)


def test_adapters_are_blocks_and_back(tiny_spec, make_teachers) -> None:
    weights = make_teachers(tiny_spec, 3)
    one = to_blocks(weights, 1)
    assert {name: tuple(value.shape) for name, value in one.items()} == {
        block.name: block.shape for block in blocks_of(tiny_spec)
    }
    again = from_blocks(tiny_spec, {name: value[None] for name, value in one.items()})
    for path in tiny_spec.paths:
        assert torch.equal(again.lora_A[path][0], weights.lora_A[path][1])
        assert torch.equal(again.lora_B[path][0], weights.lora_B[path][1])


def test_a_collection_of_runs_is_taught_measured_and_gone_on_with(world, tmp_path, capsys) -> None:
    folder = tmp_path / "collection"
    made = collect_adapters(folder, world)
    assert len(made.checkpoints) == 8
    assert {each.step for each in made.checkpoints} == {2, 4}
    # Adapters this small choose alike everywhere.
    assert set(made.metrics) == {"gain", "retention"}
    assert "accuracy: the same in all 8 checkpoints, left out" in capsys.readouterr().out
    # The run with the largest learning rate moved furthest from the base.
    last = [made.checkpoints[places[-1]] for places in made.runs.values()]
    fastest = max(last, key=lambda each: each.hyperparameters["log10_lr"])
    assert fastest.metrics["retention"] == min(each.metrics["retention"] for each in last)
    stamp = (folder / made.checkpoints[0].file).stat().st_mtime_ns
    (folder / checkpoint_file("run_003", 4)).unlink()
    again = collect_adapters(folder, world)
    assert again.checkpoints == made.checkpoints
    assert (folder / made.checkpoints[0].file).stat().st_mtime_ns == stamp
    assert Collection.read(folder).source == again.source
    weights = load_adapters(folder, world, [each.file for each in made.checkpoints[:2]])
    measured = world.meter().measure(weights)
    for record, values in zip(made.checkpoints[:2], measured, strict=True):
        for name, value in record.metrics.items():
            assert values[name] == pytest.approx(value, abs=1e-4)


def test_other_settings_in_the_same_folder_are_refused(world, tmp_path) -> None:
    folder = tmp_path / "collection"
    collect_adapters(folder, world)
    other = replace(world, runs=replace(world.runs, steps=6))
    with pytest.raises(RunError, match="as before"):
        collect_adapters(folder, other)


def test_the_world_of_a_collection_is_made_again_or_refused(
    world, make_tiny_model, tokenizer, tmp_path
) -> None:
    source = json.loads(json.dumps(world.source()))
    again = AdapterWorld.of_source(source, tmp_path, make_tiny_model(), tokenizer)
    assert again.runs == world.runs
    assert again.spec == world.spec
    with pytest.raises(RunError, match="base model: expected"):
        AdapterWorld.of_source(source, tmp_path, make_tiny_model(seed=1), tokenizer)
    with pytest.raises(RunError, match="kind 'files'"):
        AdapterWorld.of_source({"kind": "files"}, tmp_path, make_tiny_model(), tokenizer)


def test_an_unknown_task_is_told_before_anything_is_written(
    make_tiny_model, tokenizer, words_task
) -> None:
    runs = AdapterRuns(task="nosuch", general=words_task("general"), others=())
    with pytest.raises(TaskError, match="'nosuch'"):
        AdapterWorld.of(runs, make_tiny_model(), tokenizer)


def test_more_examples_than_there_are_leave_no_folder(
    make_tiny_model, tokenizer, tiny_adapter_runs, tmp_path
) -> None:
    ranges = HyperparameterRanges(examples_low=8, examples_high=500)
    world = AdapterWorld.of(replace(tiny_adapter_runs, ranges=ranges), make_tiny_model(), tokenizer)
    with pytest.raises(TaskError, match="training examples: expected at least"):
        collect_adapters(tmp_path / "out", world)
    assert not (tmp_path / "out").exists()


def test_teachers_of_the_main_job_are_collected_with_their_way(
    make_tiny_model, tokenizer, tiny_adapter_runs, tmp_path
) -> None:
    model = make_tiny_model()
    config = TeachConfig(
        tmp_path / "run",
        (tiny_adapter_runs.task,),
        teachers_per_task=3,
        r=2,
        optim=TeacherOptim(steps=4, examples_per_step=4),
        keep_every=2,
    )
    manifest = teach(config, model, tokenizer)
    run, folder = RunFolder(tmp_path / "run"), tmp_path / "collection"
    made = collect_taught(folder, run, tiny_adapter_runs, model, tokenizer)
    assert [(each.run, each.step) for each in made.checkpoints] == [
        (entry.id, step) for entry in manifest.adapters for step in (2, 4)
    ]
    assert made.hyperparameters == ()
    teacher = load_adapter(run.checkpoints / manifest.adapters[0].path)
    found = made.weights(1)
    for path in teacher.spec.paths:
        assert torch.equal(found[f"{path}.lora_B"], teacher.lora_B[path][0])
    fitted = fit_sideways(made, tmp_path / "model", SidewaysTraining(steps=2))
    assert set(agreement_on_test_runs(fitted)["mean"]) == set(made.metrics)
    assert end_errors(fitted, unseen_trajectories(fitted))["latent dynamics"]["gain"] >= 0
    alone = run.checkpoints / manifest.adapters[0].path
    assert set(predict_file(fitted, alone)[0]) == set(made.metrics)
    other_alpha = replace(teacher.spec, lora_alpha=3.0)
    save_adapter(
        replace(teacher, spec=other_alpha),
        tmp_path / "alpha",
        base_model_name="x",
        base_fingerprint="y",
    )
    with pytest.raises(RunError, match="lora_alpha: expected"):
        predict_file(fitted, tmp_path / "alpha")
    with pytest.raises(RunError, match=r"teachers of 'other': expected at least 3, got 0"):
        other = replace(tiny_adapter_runs, task=tiny_adapter_runs.others[0], others=())
        collect_taught(folder, run, other, model, tokenizer)
    shutil.rmtree(run.trajectories)
    with pytest.raises(RunError, match="with --keep-every"):
        collect_taught(tmp_path / "b", run, tiny_adapter_runs, model, tokenizer)


@pytest.mark.parametrize(
    "words",
    [
        {"runs": 2},
        {"keep_every": 5},
        {"task": "boolq"},
        {"task": "arc_easy"},
        {"scored": 0},
        {"max_tokens": 1},
    ],
)
def test_runs_that_cannot_be_are_refused(words) -> None:
    with pytest.raises(SettingError):
        AdapterRuns(**words)
