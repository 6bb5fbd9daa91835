"""Training on a tiny run: gradients, records, resume, objectives, validation families."""

import json
import shutil

import pytest
import torch

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.cli import CONSOLE as DELTAS
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import SettingError
from llgbm.deltas.metrics_log import read_metrics
from llgbm.deltas.probes import create_generic_probes
from llgbm.generators.cli import CONSOLE
from llgbm.generators.conditions import embed_conditions
from llgbm.generators.demo import DemoConfig
from llgbm.generators.evaluate import EvaluateConfig
from llgbm.generators.experiments.run_ablations import AblationConfig
from llgbm.generators.experiments.run_composition import CompositionConfig
from llgbm.generators.experiments.run_main import MainConfig
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.losses import DeltaGuided, DeltaOnly, MultiTask, Step
from llgbm.generators.retriever.train import TrainRetrieverConfig
from llgbm.generators.runs import RunFolder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.config import TrainConfig
from llgbm.generators.training.inputs import collect_inputs
from llgbm.generators.training.loop import learning_rate
from llgbm.generators.training.train import Trainer
from llgbm.generators.vae.bottlenecks.vector_quantized import VectorQuantizedConfig


@pytest.mark.parametrize(
    "objective",
    [MultiTask(lambda_weight=0.0), DeltaOnly(), DeltaGuided(every_n=1, lambda_weight=0.0)],
)
def test_the_computed_delta_reaches_every_generator_parameter_through_the_base(
    tiny_run, objective
) -> None:
    run, model, _ = tiny_run
    base, _ = load_base_model(str(model))
    probes, spec = create_generic_probes(), DeltaSpec((-2, -1), aggregation="per_probe")
    config = TrainConfig(run, "unused", objective=objective, batch_size=2, deltas=spec)
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


def test_settings_that_cannot_work_are_refused_before_anything_is_written(
    run_copy, train_command, capsys
) -> None:
    checkpoints, means = run_copy / "checkpoints", str(RunFolder(run_copy).delta_cache("mean"))
    options = ["--out", means, "--deltas.aggregation", "mean"]
    assert DELTAS.run(["compute", str(checkpoints), *options]) == 0
    for more, words in (
        (
            ["--delta-cache", "mean", "--objective.lambda-kl", "1"],
            "expected layer -1, pooling last_token and aggregation",
        ),
        (["--objective.every-n", "50", "objective.schedule:ramp", "--objective.schedule.start",
          "3"], "computed: expected to act in one of the 6 steps"),
    ):  # fmt: skip
        arguments = train_command(run_copy, "x")
        if "--delta-cache" in more:
            place = arguments.index("objective:delta-guided")
            arguments[place:place] = more[:2]
            more = more[2:]
        assert CONSOLE.run([*arguments, *more]) == 2
        assert words in capsys.readouterr().err
    for option, value, words in (
        ("--clip-norm", "0", "clip_norm: expected more than 0"),
        ("--weight-decay", "-1", "weight_decay: expected at least 0"),
        ("--weight-decay", "inf", "weight_decay: expected at least 0 and finite"),
        ("--clip-norm", "inf", "clip_norm: expected more than 0 and finite"),
        ("--lr", "inf", "lr: expected at least 0 and finite"),
        ("--condition-noise", "inf", "condition_noise: expected at least 0 and finite"),
        ("--warmup-steps", "999", "warmup_steps: expected at most the 6 steps, got 999"),
        ("--seed", "-1", "seed: expected from 0 to 4294967295, got -1"),
        ("--conditions.prompts", "-1", "prompts: expected at least 0"),
        ("--conditions.prompts", "inf", "prompts: expected at least 0 and finite"),
    ):
        assert CONSOLE.run(train_command(run_copy, "x", option, value)) == 2
        assert words in capsys.readouterr().err
    assert not (run_copy / "generators" / "x").exists()


def test_a_training_that_leaves_the_numbers_says_so(run_copy, train_command, capsys) -> None:
    # A rate at which the first step overflows float32.
    assert CONSOLE.run(train_command(run_copy, "wild", "--lr", "1e30", "--warmup-steps", "0")) == 2
    assert "loss: expected a finite number" in capsys.readouterr().err
    assert not (run_copy / "generators" / "wild" / "finished.json").exists()
    arguments = train_command(run_copy, "last", "--lr", "1e30", "--warmup-steps", "0")
    arguments[arguments.index("--steps") + 1] = "1"
    assert CONSOLE.run(arguments) == 2
    assert "step 1: validation: expected a finite number, got nan" in capsys.readouterr().err
    assert not (run_copy / "generators" / "last" / "finished.json").exists()


def test_a_half_taught_run_is_not_trained_on(run_copy, train_command, capsys) -> None:
    path = run_copy / "checkpoints" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["adapters"][-1]
    path.write_text(json.dumps(manifest))
    assert CONSOLE.run(train_command(run_copy, "new")) == 2
    assert "expected 6 teachers, got 5: run `llgbm teach` again" in capsys.readouterr().err


def test_answers_in_training_conditions_are_answers_in_validation(run_copy) -> None:
    probes, spec = create_generic_probes(), DeltaSpec((-2, -1), aggregation="per_probe")
    plain, answered = (
        collect_inputs(RunFolder(run_copy), probes, spec, 3, "", kind).seen.conditions[0]
        for kind in ("prompts", "prompts_with_answers")
    )
    assert answered.kind == "prompts_with_answers"
    for prompt, both in zip(plain.texts, answered.texts, strict=True):
        assert both.startswith(prompt)
        assert both.removeprefix(prompt).strip() in ("AA", "bb")


def test_generators_are_chosen_by_tasks_trained_on_and_validation_families_alike(
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
    seen, family = (
        [r for r in records if r["split"] == split] for split in ("validation", "validation_family")
    )
    assert [r["step"] for r in family] == [0, 3, 6]
    finished = json.loads((folder / "finished.json").read_text())
    pairs = zip(seen[1:], family[1:], strict=True)
    best = max((a["delta_cosine"] + b["delta_cosine"]) / 2 for a, b in pairs)
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


def test_the_warm_up_is_no_longer_than_the_training(tmp_path) -> None:
    short, long = TrainConfig(tmp_path, steps=4), TrainConfig(tmp_path, steps=400)
    assert (short.settings()["warmup_steps"], long.settings()["warmup_steps"]) == (4, 10)
    assert max(learning_rate(short, step) for step in range(4)) == short.lr


@pytest.mark.parametrize("command", ["train", "train-vae", "train-retriever", "evaluate",
                                     "identifiability"])  # fmt: skip
def test_a_base_model_of_other_weights_is_refused(
    tiny_run, run_copy, tmp_path, make_tiny_model, command, capsys
) -> None:
    shutil.copytree(tiny_run[1], tmp_path / "model")
    make_tiny_model(seed=1).save_pretrained(tmp_path / "model")
    path = run_copy / "checkpoints" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model": f"{tmp_path}/model"}))
    more = ["--name", "new"] if command.startswith("train") else []
    before = sorted(path for path in run_copy.rglob("*") if "embeddings" not in path.parts)
    assert CONSOLE.run([command, "--run", str(run_copy), *more]) == 2
    assert "manifest.json: base model: expected" in capsys.readouterr().err
    after = sorted(path for path in run_copy.rglob("*") if "embeddings" not in path.parts)
    assert after == before


def test_teachers_that_change_nothing_are_named(tiny_run, tmp_path, teach_command, capsys) -> None:
    run = tmp_path / "run"
    teach = teach_command(run, *tiny_run[1:])
    teach[teach.index("--optim.lr") + 1] = "0"
    assert CONSOLE.run(teach) == 0
    assert DELTAS.run(["compute", str(run / "checkpoints")]) == 0
    for command in ("train", "train-vae", "train-retriever", "identifiability"):
        capsys.readouterr()
        assert CONSOLE.run([command, "--run", str(run)]) == 2
        words = "expected updates other than zero, got zero of ['caps_000', "
        assert words in capsys.readouterr().err
    assert not (run / "generators").exists()


@pytest.mark.parametrize(
    "make",
    [
        lambda run: DemoConfig(run=run, seed=2**40),
        lambda run: EvaluateConfig(run, seed=-1),
        lambda run: TrainRetrieverConfig(run, seed=2**70),
        lambda run: MainConfig(run=run, seed=2**40),
        lambda run: CompositionConfig(run=run, seed=2**40),
        lambda run: AblationConfig("lambda", run=run, seed=2**40),
        lambda run: VectorQuantizedConfig(seed=2**40),
    ],
)
def test_seeds_are_bounded_everywhere(make, tmp_path) -> None:
    with pytest.raises(SettingError, match="seed: expected from 0 to 4294967295"):
        make(tmp_path)
