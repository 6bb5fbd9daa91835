"""Ablations on a tiny model: what they train, measure, write and refuse."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import RunError
from llgbm.deltas.probe_names import named_probes
from llgbm.generators.cli import CONSOLE
from llgbm.generators.experiments import equal_time, presets
from llgbm.generators.experiments.ablation_results import AblationResults, resampled
from llgbm.generators.experiments.presets import PRESETS, ExperimentPreset
from llgbm.generators.experiments.run_ablations import AblationConfig, run_ablations
from llgbm.generators.experiments.variants import ABLATIONS
from llgbm.generators.losses import DeltaGuided, MultiTask, Ramp
from llgbm.generators.runs import RunFolder, alone
from llgbm.generators.training.config import TrainConfig
from llgbm.generators.training.inputs import collect_inputs
from llgbm.generators.training.train import Trainer


@pytest.fixture
def tiny_preset(set_tiny_preset) -> ExperimentPreset:
    """Sizes for the tiny model in place of the `demo` preset."""
    return set_tiny_preset()


def ablate(run: Path, model: Path, name: str, *variants: str) -> AblationResults:
    base, tokenizer = load_base_model(str(model))
    config = AblationConfig(name, "demo", run, None, variants, str(model))
    return run_ablations(config, base, tokenizer)


def test_an_ablation_trains_measures_and_writes_every_variant(
    tiny_run, tiny_preset, tmp_path, capsys
) -> None:
    # The reference runs beside what is asked for.
    results = ablate(tmp_path, tiny_run[1], "lambda", "1")
    assert AblationResults.read(tmp_path / "experiments" / "lambda.json") == results
    assert list(results.variants) == ["0", "1"]
    reference, other = results.variants["0"], results.variants["1"]
    assert (reference.steps, reference.seeds) == (6, 2)
    # Weights alone never run the base.
    assert (reference.steps_on_probes, other.steps_on_probes) == (0, 6)
    assert reference.steps_on_tasks == other.steps_on_tasks == 0
    assert not reference.over_reference
    assert set(other.metrics) == {"seen", "validation_family"}
    seen = other.metrics["seen"]
    # Two seeds, two tasks, two examples; a validation of one task has no wrong condition.
    assert seen["accuracy"].n == seen["condition_sensitivity"].n == 8
    # Five probes.
    assert seen["cosine"].n == seen["kl"].n == 20
    assert "condition_sensitivity" not in other.metrics["validation_family"]
    over, mean = other.over_reference["seen"]["kl"], reference.metrics["seen"]["kl"].mean
    assert over.mean == pytest.approx(seen["kl"].mean - mean, abs=1e-6)
    printed = capsys.readouterr().out
    assert "How much should the computed delta weigh" in printed
    assert "difference from '0'" in printed


def test_a_second_call_trains_nothing_and_finds_the_same(
    tiny_run, tiny_preset, tmp_path, monkeypatch
) -> None:
    from llgbm.generators.training.train import Trainer

    first = ablate(tmp_path, tiny_run[1], "weights")
    monkeypatch.setattr(Trainer, "fit", lambda self: pytest.fail("trained again"))
    second = ablate(tmp_path, tiny_run[1], "weights")
    assert first.variants == second.variants


def test_variants_at_equal_time_differ_in_steps_and_share_them_over_seeds(
    tiny_run, tiny_preset, tmp_path
) -> None:
    results = ablate(tmp_path, tiny_run[1], "objective", "weights only", "delta only")
    weights, delta = results.variants.values()
    # Two seeds, and the mean over them is the number of steps of each.
    assert weights.steps_on_probes == 0
    assert delta.steps_on_probes == delta.steps >= 10


def test_steps_at_equal_time_weigh_those_that_run_the_base(tiny_run, monkeypatch) -> None:
    run, folder, _ = tiny_run
    clock = [0.0]

    def step(trainer: Trainer) -> None:
        clock[0] += 3.0 if trainer.objective.runs_base(trainer.step) else 1.0

    monkeypatch.setattr(Trainer, "train_step", step)
    monkeypatch.setattr(equal_time.time, "perf_counter", lambda: clock[0])
    model, _ = load_base_model(str(folder))
    spec = DeltaSpec((-2, -1), aggregation="per_probe")
    inputs = collect_inputs(RunFolder(run), named_probes("generic"), spec, 3)
    # 30 steps of one second and 10 of three.
    objective = MultiTask(schedule=Ramp(30))
    config = TrainConfig(run, "x", objective=objective, steps=40, batch_size=2, deltas=spec)
    assert equal_time.steps_within(config, 30.0, inputs, model, RunFolder(run)) == 20
    assert equal_time.steps_within(config, 120.0, inputs, model, RunFolder(run)) == 80
    assert equal_time.steps_within(config, 1.0, inputs, model, RunFolder(run)) == 10


def test_separate_initialisations_have_teachers_of_their_own(
    tiny_run, tiny_preset, tmp_path
) -> None:
    results = ablate(tmp_path / "run", tiny_run[1], "initialisation")
    assert list(results.variants) == ["shared A", "separate A"]
    assert (tmp_path / "run-separate-A" / "checkpoints" / "manifest.json").exists()


def test_other_kinds_of_delta_have_caches_of_their_own(tiny_run, tiny_preset, tmp_path) -> None:
    ablate(tmp_path, tiny_run[1], "aggregation")
    assert len(list((tmp_path / "checkpoints").glob("deltas*"))) == 2


def test_every_variant_makes_a_training_configuration(tmp_path) -> None:
    base = TrainConfig(tmp_path, steps=40, deltas=DeltaSpec((-2, -1), aggregation="per_probe"))
    for ablation in ABLATIONS.values():
        assert len(ablation.variants) > 1
        settings = [str(change(base).settings()) for change in ablation.variants.values()]
        distinct = len(set(settings)) + max(0, len(ablation.separate_A))
        assert distinct == len(settings)
    objectives = {
        name: change(base).objective for name, change in ABLATIONS["objective"].variants.items()
    }
    assert isinstance(objectives["weights only"], MultiTask)
    guided = objectives["delta guided, N 5, KL"]
    assert isinstance(guided, DeltaGuided)
    assert (guided.every_n, guided.lambda_kl, guided.lambda_sft) == (5, 0.1, 0.0)


def test_presets_keep_families_apart_and_have_the_sizes_they_promise() -> None:
    from llgbm.deltas.packaged_tasks import PACKAGED_TASKS

    for name, families, tests in (("demo", 4, 1), ("small", 12, 3), ("gpu", 40, 10)):
        preset = PRESETS[name]
        parts = [
            {PACKAGED_TASKS[task].family for task in tasks}
            for tasks in (preset.tasks, preset.validation, preset.held_out)
        ]
        assert len(parts[0]) >= families
        assert len(parts[2]) >= tests
        assert len(set.union(*parts)) == sum(map(len, parts))
    assert PRESETS["small"].teachers_per_task >= 4
    assert PRESETS["gpu"].teachers_per_task >= 4


def test_two_experiments_do_not_share_a_run_folder_at_once(tmp_path, capsys) -> None:
    with alone(RunFolder(tmp_path)):
        assert CONSOLE.run(["experiment", "lambda", "--run", str(tmp_path)]) == 2
    assert "no other experiment works in" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["main", "lambda", "composition", "vae-gaussian"])
def test_an_unknown_base_model_leaves_no_run_folder(tmp_path, name, capsys) -> None:
    run = tmp_path / "run"
    assert CONSOLE.run(["experiment", name, "--run", str(run), "--base-model", "nope"]) == 2
    assert "base model: expected one of" in capsys.readouterr().err
    assert not run.exists()


def test_intervals_cover_seeds_and_examples() -> None:
    rows = np.zeros((3, 50))
    rows[0] = 1.0
    found = resampled([rows, rows])
    assert found.mean == pytest.approx(1 / 3)
    # One seed in three: resampled seeds are all alike or mixed.
    assert (found.low, found.high) == (0.0, 1.0)
    ragged = [np.ones((1, 4)), np.zeros((1, 2))]
    assert resampled(ragged).mean == pytest.approx(0.5)
    assert resampled(ragged).n == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nope"], "lambda"),
        (["lambda", "--variants", "7"], "variants: expected among ['0', '0.01', '0.1', '1'], got"),
        (["lambda", "--seed", "-1"], "seed: expected from 0 to 4294967295, got -1"),
    ],
)
def test_unknown_experiments_are_one_line(arguments, words, capsys) -> None:
    assert CONSOLE.run(["experiment", *arguments]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.strip().splitlines()) == 1


def test_results_that_are_damaged_are_named(tiny_run, tiny_preset, tmp_path) -> None:
    ablate(tmp_path, tiny_run[1], "weights")
    path = tmp_path / "experiments" / "weights.json"
    text = path.read_text()
    path.write_text(text.replace('"reference": "factors"', '"reference": "other"'))
    with pytest.raises(RunError, match="reference: expected"):
        AblationResults.read(path)
    path.write_text(text.replace('"mean"', '"middle"', 1))
    with pytest.raises(RunError, match="an ablation's results"):
        AblationResults.read(path)
    path.write_text("{}")
    with pytest.raises(RunError, match="schema and kind"):
        AblationResults.read(path)


def test_a_family_without_data_is_named(tiny_run, tiny_preset, tmp_path, monkeypatch) -> None:
    from llgbm.deltas.errors import TaskError

    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    preset = replace(tiny_preset, validation=(str(empty),))
    monkeypatch.setitem(presets.PRESETS, "demo", preset)
    with pytest.raises(TaskError, match=r"empty.jsonl"):
        ablate(tmp_path / "run", tiny_run[1], "weights")
