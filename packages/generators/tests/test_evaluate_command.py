"""Evaluation on a tiny run: arms, seeds, resume, the adversary."""

import json
import shutil

import pytest

from llgbm.deltas.cli import CONSOLE as DELTAS
from llgbm.deltas.metrics_log import read_metrics
from llgbm.generators.cli import CONSOLE
from llgbm.generators.evaluation.arms import ARMS
from llgbm.generators.evaluation.results import Results
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest


def test_the_results_hold_every_arm_and_split(tiny_run) -> None:
    run = RunFolder(tiny_run[0])
    results = Results.read(run.results)
    arms = {
        "base", "random", "mean_adapter", "nearest_text", "nearest_delta", "generated",
        "generated_description", "generated_shuffled", "teacher", "described",
        "retrieved_average",
    }  # fmt: skip
    for split in ("seen", "held_out_family"):
        assert set(results.accuracy[split]) == arms
    assert results.split_of_task == {
        "caps": "seen", "digits": "seen", "marks": "held_out_family",
    }  # fmt: skip
    assert {"commit", "versions", "device", "seed"} <= set(results.environment)
    lines = [json.loads(line) for line in run.scores.read_text().splitlines()]
    by_arm = [line["chosen"]["base"][0] == line["gold"] for line in lines if line["task"] == "caps"]
    assert sum(by_arm) / len(by_arm) == results.accuracy_by_task["caps"]["base"].mean
    assert set(results.delta_cosine) == {"validation", "held_out_probes"}
    validation = read_metrics(run.generator("generator") / "metrics.jsonl")
    best = max(r["delta_cosine"] for r in validation if r["split"] == "validation" and r["step"])
    assert results.delta_cosine["validation"]["generator"] == pytest.approx(best, abs=1e-4)


def test_an_interrupted_evaluation_goes_on_after_its_finished_tasks(
    run_copy, monkeypatch, capsys
) -> None:
    from llgbm.generators.evaluation.task_scores import TaskScorer

    before = (run_copy / "evaluation" / "scores.jsonl").read_text()
    score, calls = TaskScorer.score, []

    def interrupted(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return score(*arguments, **options)

    command = ["evaluate", "--run", str(run_copy), "--examples", "6"]
    monkeypatch.setattr(TaskScorer, "score", interrupted)
    assert CONSOLE.run(command) == 130
    assert CONSOLE.run(command) == 0
    assert len(calls) == 4
    assert (run_copy / "evaluation" / "scores.jsonl").read_text() == before
    assert not list((run_copy / "evaluation").glob(".*"))


def test_all_arms_of_two_seeds_are_scored_together(run_copy, train_command, capsys) -> None:
    run = RunFolder(run_copy)
    arguments = train_command(run_copy, "second")
    place = arguments.index("objective:delta-guided")
    assert CONSOLE.run([*arguments[:place], "--seed", "1", *arguments[place:]]) == 0
    retriever = ["train-retriever", "--run", str(run_copy), "--steps", "5", "--batch-size", "2"]
    assert CONSOLE.run(retriever) == 0
    command = ["evaluate", "--run", str(run_copy), "--examples", "6", "--parse-examples", "2"]
    both = ["--generators", "generator", "second", "--arms", "all"]
    assert CONSOLE.run([*command, *both]) == 0
    results = Results.read(run.results)
    for split in ("seen", "held_out_family"):
        assert set(results.accuracy[split]) == set(ARMS)
        assert set(results.differences[split]) == set(ARMS) - {"generated"}
        seeds = [results.metrics[f"{split}.{name}.accuracy"] for name in ("generator", "second")]
        assert results.accuracy[split]["generated"].mean == pytest.approx(sum(seeds) / 2)
        # In the context there is no adapter, so there is no delta and no ratio.
        assert "described" not in results.behaviour[split]
        assert set(results.behaviour[split]) == set(ARMS) - {"described"}
        assert results.behaviour[split]["base"].cosine is None
        assert results.behaviour[split]["base"].kl.mean > 0
        # One task's teachers are like each other, a random adapter is like none of them.
        behaviour = results.behaviour[split]
        assert behaviour["teacher"].cosine.mean > behaviour["random"].cosine.mean
        assert set(results.parse_rate[split]) == set(ARMS)
        assert {"generated", "teacher"} <= set(results.nearest_teacher[split])
    assert "2 generator seeds" in results.scale
    assert results.clusters["deltas"]["task"] is not None
    lines = [json.loads(line) for line in run.scores.read_text().splitlines()]
    chosen = lines[0]["chosen"]
    assert len(chosen["generated"]) == len(chosen["nearest_delta"]) == 2
    assert all(len(chosen[arm]) == 1 for arm in ("base", "rank1", "multi_task", "described"))
    assert (run_copy / "baselines" / "multi_task" / "adapter_model.safetensors").exists()
    assert CONSOLE.run(["report", "--run", str(run_copy)]) == 0
    html = run.report.read_text()
    assert "rank-1 delta matcher (adversary)" in html
    assert "Free answers, held-out families" in html


def test_generators_that_write_other_adapters_are_not_averaged(
    run_copy, train_command, capsys
) -> None:
    arguments = train_command(run_copy, "wide")
    place = arguments.index("objective:delta-guided")
    probes = ["--probes", "math"]
    cache = ["compute", str(run_copy / "checkpoints"), "--probes", "math"]
    shutil.rmtree(run_copy / "checkpoints" / "deltas")
    assert DELTAS.run(cache) == 0
    assert CONSOLE.run([*arguments[:place], *probes, *arguments[place:]]) == 0
    command = ["evaluate", "--run", str(run_copy), "--examples", "6"]
    capsys.readouterr()
    assert CONSOLE.run([*command, "--generators", "generator", "wide"]) == 2
    assert "wide: probes and deltas: expected those of generator" in capsys.readouterr().err
    for more, words in (
        (["--generators", "wide", "wide"], "generators and beside: expected each once"),
        (["--arms", "nearest"], "arms: expected all, default or some of"),
        (["--arm-settings.neighbours", "0"], "neighbours: expected at least 1, got 0"),
    ):
        assert CONSOLE.run([*command, *more]) == 2
        assert words in capsys.readouterr().err


def test_identifiability_is_written_beside_the_results(run_copy, capsys) -> None:
    assert CONSOLE.run(["identifiability", "--run", str(run_copy)]) == 0
    assert "rank1" in capsys.readouterr().out
    content = json.loads((run_copy / "evaluation" / "identifiability.json").read_text())
    assert content["mean"]["rank1"]["mean_cosine"] > 0.95
    assert content["mean"]["rank1"]["loss"] > 0.5
    assert content["mean"]["rank1_fitted"]["loss"] < content["mean"]["rank1"]["loss"]
    assert content["mean"]["teacher"]["loss"] == pytest.approx(0, abs=1e-3)
    assert list(content["teachers"]) == ["caps_000", "digits_000", "marks_000"]
    assert {"commit", "versions", "device", "seed"} <= set(content["environment"])


def test_a_generator_that_predicts_no_delta_has_no_arms_by_it(run_copy, train_command) -> None:
    arguments = train_command(run_copy, "weights")
    place = arguments.index("objective:delta-guided")
    weights = ["objective:multi-task", "--objective.lambda-delta", "0"]
    assert CONSOLE.run([*arguments[:place], *weights]) == 0
    command = ["evaluate", "--run", str(run_copy), "--examples", "4", "--parse-examples", "0"]
    assert CONSOLE.run([*command, "--generators", "weights"]) == 0
    arms = set(Results.read(RunFolder(run_copy).results).accuracy["seen"])
    assert {"nearest_text", "generated"} <= arms
    assert not {"nearest_delta", "retrieved_average", "predicted_average"} & arms


def test_probes_that_were_trained_on_are_not_held_out(run_copy, capsys) -> None:
    command = ["evaluate", "--run", str(run_copy), "--held-out-probes", "generic"]
    assert CONSOLE.run(command) == 2
    assert "held_out_probes: expected none of the probes generic" in capsys.readouterr().err
    command = ["identifiability", "--run", str(run_copy), "--held-out-probes", "generic+math"]
    assert CONSOLE.run(command) == 2
    assert "which shares 5" in capsys.readouterr().err


def test_a_generator_is_evaluated_with_the_delta_cache_it_was_trained_on(
    run_copy, train_command
) -> None:
    from llgbm.deltas.base_models import load_base_model
    from llgbm.deltas.delta import DeltaSpec
    from llgbm.generators.experiments.prepare import prepare_deltas

    run = RunFolder(run_copy)
    manifest = Manifest.read(run.manifest)
    model, _ = load_base_model(manifest.base_model)
    spec = DeltaSpec(pooling="mean", aggregation="per_probe")
    name = prepare_deltas(run, manifest, model, "math", spec)
    assert name
    more = ["--delta-cache", name, "--probes", "math"]
    assert CONSOLE.run(train_command(run_copy, "math", *more)) == 0
    command = ["evaluate", "--run", str(run_copy), "--examples", "4", "--parse-examples", "0"]
    assert CONSOLE.run([*command, "--generators", "math"]) == 0
    assert "nearest_delta" in Results.read(run.results).accuracy["seen"]


def test_fewer_condition_prompts_than_asked_for_are_told(run_copy, capsys) -> None:
    command = ["evaluate", "--run", str(run_copy), "--examples", "4", "--parse-examples", "0"]
    assert CONSOLE.run([*command, "--condition-prompts", "999"]) == 0
    assert "caps: condition_prompts: 5 in place of 999, half of its" in capsys.readouterr().out


def test_a_vae_is_no_generator_to_evaluate(run_copy, capsys) -> None:
    folder = run_copy / "generators" / "vae"
    folder.mkdir()
    (folder / "config.json").write_text('{"format": 1, "kind": "vae"}')
    assert CONSOLE.run(["evaluate", "--run", str(run_copy), "--generators", "vae"]) == 2
    assert "kind: expected a generator of `llgbm train`, got 'vae'" in capsys.readouterr().err
