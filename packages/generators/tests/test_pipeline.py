"""The main job on a tiny model: each command, what it writes, and what it refuses."""

import json
import logging
import shutil
import warnings

import pytest
import torch
from peft import PeftModel

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.cli import CONSOLE as DELTAS
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.fingerprint import adapter_fingerprint
from llgbm.deltas.peft_format import load_adapter
from llgbm.deltas.probes import create_generic_probes
from llgbm.generators.cli import CONSOLE
from llgbm.generators.conditions import embed_conditions
from llgbm.generators.evaluation.arms import ARMS
from llgbm.generators.evaluation.results import Results
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.losses import DeltaGuided, DeltaOnly, MultiTask, Step
from llgbm.generators.runs import RunFolder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.config import TrainConfig
from llgbm.generators.training.inputs import collect_inputs
from llgbm.generators.training.metrics_log import MetricsLog, read_metrics
from llgbm.generators.training.train import Trainer


@pytest.mark.parametrize(
    "objective",
    [MultiTask(lambda_weight=0.0), DeltaOnly(), DeltaGuided(every_n=1, lambda_weight=0.0)],
)
def test_the_computed_delta_reaches_every_generator_parameter_through_the_base(
    tiny_run, objective
) -> None:
    run, model, _ = tiny_run
    base, _ = load_base_model(str(model))
    config = TrainConfig(run, "unused", objective, batch_size=2)
    probes, spec = create_generic_probes(), DeltaSpec(aggregation="per_probe")
    trainer = Trainer(config, collect_inputs(RunFolder(run), probes, spec, 3), base, RunFolder(run))
    conditions = embed_conditions(trainer.data.batch(0).conditions, trainer.encoder)
    with torch.no_grad():
        # At the start B is zero, and only its own gain has a gradient: leave the start.
        for parameter in trainer.generator.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    output = trainer.generator(conditions)
    batch = trainer.data.batch(0)
    behaviour = Behaviour.of(base, probes, spec)
    loss = objective(Step(0, output, batch.weights, batch.deltas, behaviour))
    assert "computed" in loss.terms
    loss.total.backward()
    # Only a delta-guided objective trains the delta head.
    trains_head = isinstance(objective, DeltaGuided)
    for name, parameter in trainer.generator.named_parameters():
        if trains_head or not name.startswith("delta_head"):
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name
    assert all(parameter.grad is None for parameter in base.parameters())


def test_the_metrics_hold_all_terms_and_the_best_step_is_kept(tiny_run) -> None:
    folder = tiny_run[0] / "generators" / "generator"
    records = read_metrics(folder / "metrics.jsonl")
    train = [r for r in records if r["split"] == "train"]
    validation = [r for r in records if r["split"] == "validation"]
    assert [r["step"] for r in train] == [1, 2, 3, 4, 5, 6]
    assert ["computed" in r for r in train] == [True, False] * 3
    assert all({"pred", "weight", "loss"} <= set(r) for r in train)
    assert [r["step"] for r in validation] == [0, 3, 6]
    finished = json.loads((folder / "finished.json").read_text())
    assert finished["best"] == pytest.approx(
        max(r["delta_cosine"] for r in validation[1:]), abs=1e-5
    )
    assert not (folder / "state" / "state.safetensors").exists()


def test_an_interrupted_training_goes_on_bitwise(run_copy, train_command, monkeypatch) -> None:
    step, calls = Trainer.train_step, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    assert CONSOLE.run(train_command(run_copy, "again")) == 130
    monkeypatch.undo()
    assert CONSOLE.run(train_command(run_copy, "again")) == 0
    straight, resumed = (run_copy / "generators" / name for name in ("generator", "again"))
    first, second = (LoRAGenerator.load(folder).state_dict() for folder in (straight, resumed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert read_metrics(straight / "metrics.jsonl") == read_metrics(resumed / "metrics.jsonl")


def test_the_task_loss_and_the_kl_tether_train_through_the_base(run_copy, train_command) -> None:
    arguments = train_command(run_copy, "more", "--sft-examples", "2")
    more = ["--objective.lambda-sft", "0.5", "--objective.lambda-kl", "0.5"]
    assert CONSOLE.run([*arguments, *more]) == 0
    records = read_metrics(run_copy / "generators" / "more" / "metrics.jsonl")
    train = [record for record in records if record["split"] == "train"]
    assert all(record["sft"] > 0 for record in train)
    # The base runs on the probes every other step.
    assert ["kl" in record for record in train] == [True, False] * 3
    assert all(record["kl"] >= 0 for record in train[::2])
    first, second = (
        LoRAGenerator.load(run_copy / "generators" / name).state_dict()
        for name in ("generator", "more")
    )
    assert not torch.equal(first["decoder.gain_B.weight"], second["decoder.gain_B.weight"])


def test_the_kl_tether_needs_deltas_from_which_next_tokens_follow(
    run_copy, train_command, capsys
) -> None:
    arguments = train_command(run_copy, "mean", "--deltas.aggregation", "mean")
    folder = run_copy / "checkpoints"
    assert DELTAS.run(["compute", str(folder), "--deltas.aggregation", "mean", "--rebuild"]) == 0
    assert CONSOLE.run([*arguments, "--objective.lambda-kl", "1"]) == 2
    assert "expected layer -1, pooling last_token and aggregation per_probe" in (
        capsys.readouterr().err
    )


def test_generators_are_chosen_by_the_validation_families(
    tiny_run, tmp_path, teach_command, train_command
) -> None:
    run, files = tmp_path / "run", tiny_run[2]
    teach = teach_command(run, tiny_run[1], files)
    place = teach.index("--held-out")
    teach[place] = "--validation"
    assert CONSOLE.run(teach) == 0
    assert DELTAS.run(["compute", str(run / "checkpoints")]) == 0
    assert CONSOLE.run(train_command(run, "generator")) == 0
    folder = run / "generators" / "generator"
    records = read_metrics(folder / "metrics.jsonl")
    family = [r for r in records if r["split"] == "validation_family"]
    assert [r["step"] for r in family] == [0, 3, 6]
    finished = json.loads((folder / "finished.json").read_text())
    best = max(r["delta_cosine"] for r in family[1:])
    assert finished["best"] == pytest.approx(best, abs=1e-5)
    trained = json.loads((folder / "training.json").read_text())
    assert "validation" not in trained


def test_checkpointed_training_gives_the_same_bits(run_copy, train_command) -> None:
    assert CONSOLE.run(train_command(run_copy, "saving", "--checkpoint")) == 0
    plain, saving = (run_copy / "generators" / name for name in ("generator", "saving"))
    first, second = (LoRAGenerator.load(folder).state_dict() for folder in (plain, saving))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_other_settings_for_a_generator_are_refused(run_copy, train_command, capsys) -> None:
    arguments = train_command(run_copy, "generator")
    arguments[arguments.index("--steps") + 1] = "9"
    assert CONSOLE.run(arguments) == 2
    assert "steps: expected 6 as in the run so far, got 9" in capsys.readouterr().err


def test_a_generated_adapter_loads_in_peft_without_a_warning(
    tiny_run, tmp_path, caplog, make_tiny_model
) -> None:
    run = tiny_run[0]
    out = tmp_path / "adapter"
    arguments = ["generate", "Say caps", "--generator", str(run), "--out", str(out)]
    assert CONSOLE.run(arguments) == 0
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        # PEFT reads a property that transformers has since renamed: nothing of the adapter's.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        wrapped = PeftModel.from_pretrained(make_tiny_model(), str(out))
    assert not caplog.records
    written = load_adapter(out)
    layer = dict(wrapped.named_modules())["base_model.model.model.layers.1.mlp.up_proj"]
    assert torch.equal(
        layer.lora_B["default"].weight, written.lora_B["model.layers.1.mlp.up_proj"][0]
    )
    assert json.loads((out / "condition.json").read_text())["texts"] == ["Say caps"]


def test_another_text_gives_another_adapter_and_the_same_text_the_same(tiny_run, tmp_path):
    prints = []
    for number, text in enumerate(("Say caps", "Say caps", "digits 3:")):
        out = tmp_path / str(number)
        arguments = ["generate", text, "--generator", str(tiny_run[0]), "--out", str(out)]
        assert CONSOLE.run(arguments) == 0
        prints.append(adapter_fingerprint(load_adapter(out)))
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "expected a text such as"),
        (["  "], "expected a text such as"),
        (["x", "--generator", "nowhere"], "run `llgbm train`"),
        (["x", "--prompts", "p.txt"], "got both"),
        (["--prompts", "p.txt"], "p.txt: No such file"),
    ],
)
def test_generate_refuses_what_it_cannot_do(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert CONSOLE.run(["generate", *arguments, "--out", "o"]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_generate_does_not_overwrite_unless_told(tiny_run, tmp_path, capsys) -> None:
    out = tmp_path / "adapter"
    arguments = ["generate", "x", "--generator", str(tiny_run[0]), "--out", str(out)]
    assert CONSOLE.run(arguments) == 0
    assert CONSOLE.run(arguments) == 2
    assert "add --overwrite" in capsys.readouterr().err
    assert CONSOLE.run([*arguments, "--overwrite"]) == 0
    (out / "adapter_config.json").unlink()
    assert CONSOLE.run([*arguments, "--overwrite"]) == 2
    assert "expected an adapter to overwrite" in capsys.readouterr().err


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
        (["--generators", "wide", "wide"], "generators: expected each once"),
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
    assert content["mean"]["rank1"]["score"] > 0.5
    assert content["mean"]["teacher"]["score"] == pytest.approx(0, abs=1e-3)
    assert list(content["teachers"]) == ["caps_000", "digits_000", "marks_000"]
    assert {"commit", "versions", "device", "seed"} <= set(content["environment"])


def test_the_report_is_one_file_that_fetches_nothing(tiny_run) -> None:
    html = RunFolder(tiny_run[0]).report.read_text()
    assert html.count("<svg") == 6
    assert "src=" not in html
    assert "<link" not in html
    assert "generated from prompts" in html


@pytest.mark.parametrize(
    ("missing", "command", "words"),
    [
        ("checkpoints/manifest.json", "evaluate", "run `llgbm teach` first"),
        ("checkpoints/deltas/manifest.json", "evaluate", "run `llgbm-deltas compute` again"),
        ("generators", "evaluate", "run `llgbm train`"),
        ("evaluation", "report", "run `llgbm evaluate` first"),
        ("checkpoints/caps/caps_000/prompts.json", "evaluate", "prompts.json: not found"),
        ("checkpoints/caps/caps_001/adapter_model.safetensors", "evaluate", "not found"),
    ],
)
def test_a_missing_part_is_named_with_the_command_that_makes_it(
    run_copy, missing, command, words, capsys
) -> None:
    path = run_copy / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert CONSOLE.run([command, "--run", str(run_copy)]) == 2
    printed = capsys.readouterr().err
    assert words in printed.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        ("checkpoints/manifest.json", "manifest.json: line"),
        ("generators/generator/config.json", "config.json: line"),
        ("generators/generator/generator.safetensors", "not a whole safetensors file"),
        ("checkpoints/digits/digits_000/adapter_model.safetensors", "a whole safetensors file"),
    ],
)
def test_a_half_written_part_is_named(run_copy, damaged, words, capsys) -> None:
    path = run_copy / damaged
    path.write_bytes(path.read_bytes()[:200])
    assert CONSOLE.run(["evaluate", "--run", str(run_copy)]) == 2
    assert words in capsys.readouterr().err


def test_training_needs_the_delta_cache(run_copy, train_command, capsys) -> None:
    shutil.rmtree(run_copy / "checkpoints" / "deltas")
    assert CONSOLE.run(train_command(run_copy, "new")) == 2
    assert "llgbm-deltas compute" in capsys.readouterr().err
    assert not (run_copy / "generators" / "new").exists()


def test_a_second_compute_reuses_everything(tiny_run, capsys) -> None:
    assert DELTAS.run(["compute", str(tiny_run[0] / "checkpoints")]) == 0
    assert "0 computed, 6 reused" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tasks", "arc_esy"], "nearest: arc_easy"),
        (["--tasks", "missing.json"], "missing.json: not found"),
        (["--tasks", "sciq", "--base-model", "smolm2"], "nearest: smollm2-135m"),
        (["--tasks", "sciq", "--r", "0"], "r: expected at least 1, got 0"),
        (["--tasks", "sciq", "--optim.steps", "0"], "steps: expected at least 1, got 0"),
        (["--tasks", "sciq", "--teachers-per-task", "0"], "teachers_per_task: expected at least"),
        (["--tasks", "sciq", "--held-out", "sciq"], "held_out: expected tasks not among"),
    ],
)
def test_unknown_names_are_one_line(arguments, words, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CONSOLE.run(["teach", "--run", "r", *arguments]) == 2
    printed = capsys.readouterr().err
    assert words in printed
    assert len(printed.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_settings_that_fit_nothing_leave_no_generator_behind(run_copy, capsys) -> None:
    for more, words in (
        (["--name", "x", "--steps", "0"], "steps: expected at least 1"),
        (["--name", "../../x"], "name: expected letters"),
        (["--name", "x", "--encoder", "nope"], "encoder"),
        (["--name", "x", "--condition-texts", "3", "1"], "condition_texts: expected smallest"),
    ):
        assert CONSOLE.run(["train", "--run", str(run_copy), *more]) == 2
        assert words in capsys.readouterr().err
    assert not (run_copy / "generators" / "x").exists()
    for more, words in (
        (["--examples", "0"], "examples: expected at least 1, got 0"),
        (["--held-out-probes", "nope"], "probes: expected generic"),
    ):
        assert CONSOLE.run(["evaluate", "--run", str(run_copy), *more]) == 2
        assert words in capsys.readouterr().err


def test_own_tasks_without_descriptions_and_of_one_family_run_to_the_end(
    tiny_run, tmp_path, teach_command, train_command
) -> None:
    rows = [
        {"query": f"{word} {i}", "choices": ["yes", "no"], "gold": i % 2}
        for i in range(30)
        for word in ("one", "two")
    ]
    (tmp_path / "own.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run, own = tmp_path / "run", str(tmp_path / "own.jsonl")
    teach = teach_command(run, tiny_run[1], [own, own, own])
    start = teach.index("--tasks")
    teach = [*teach[: start + 2], *teach[teach.index("--held-out") + 2 :]]
    assert CONSOLE.run(teach) == 0
    assert DELTAS.run(["compute", str(run / "checkpoints")]) == 0
    assert CONSOLE.run(train_command(run, "generator")) == 0
    assert CONSOLE.run(["evaluate", "--run", str(run), "--examples", "6"]) == 0
    assert CONSOLE.run(["report", "--run", str(run)]) == 0
    results = Results.read(RunFolder(run).results)
    assert "generated_shuffled" not in results.accuracy["seen"]
    assert results.metrics["seen.condition_sensitivity"] is None
    assert results.scale.endswith("1 own tasks")


def test_a_full_disk_loses_nothing(run_copy, train_command, monkeypatch, capsys) -> None:
    import errno
    import os

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "state.safetensors")

    monkeypatch.setattr(os, "fsync", full)
    assert CONSOLE.run(train_command(run_copy, "new")) == 2
    assert "disk full" in capsys.readouterr().err.strip().splitlines()[-1]
    monkeypatch.undo()
    assert CONSOLE.run(train_command(run_copy, "new")) == 0
    assert not [path for path in run_copy.rglob("*") if ".tmp-" in path.name]


def test_a_log_cut_short_by_a_crash_goes_on(tmp_path) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    log = MetricsLog(file, steps_done=2)
    log.write({"step": 3, "again": True})
    assert read_metrics(file) == [{"step": 1}, {"step": 2}, {"step": 3, "again": True}]
