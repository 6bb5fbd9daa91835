"""`llgbm demo`: teachers, deltas, generator, adapters from text, evaluation, report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from llgbm.deltas.atomic import write_json
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.compute import compute_cache
from llgbm.deltas.errors import RunError, require_seed
from llgbm.deltas.json_files import read_json
from llgbm.deltas.peft_format import load_adapter
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.recommended import recommended_deltas
from llgbm.generators.answer import greedy_answer
from llgbm.generators.decoders import FullWidthConfig
from llgbm.generators.demo_estimate import estimate_seconds
from llgbm.generators.demo_presets import PRESETS, DemoPreset
from llgbm.generators.evaluate import EvaluateConfig, evaluate
from llgbm.generators.evaluation.result_checks import check_number
from llgbm.generators.evaluation.results import Results
from llgbm.generators.evaluation.table import arms_table
from llgbm.generators.generate import GenerateConfig, generate
from llgbm.generators.losses import MultiTask
from llgbm.generators.make_report import ReportConfig, make_report
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.teachers.teach import TeachConfig, teach
from llgbm.generators.training.config import TrainConfig
from llgbm.generators.training.inputs import load_run_task
from llgbm.generators.training.train import train

PROBES = "generic"
REQUEST = "Answer grade-school science questions"
# Those that the documents speak of; `llgbm evaluate` on the same run scores more.
ARMS = (
    "base",
    "random",
    "mean_adapter",
    "nearest_text",
    "nearest_delta",
    "generated",
    "generated_description",
    "generated_shuffled",
    "teacher",
)


@dataclass(frozen=True)
class DemoConfig:
    """Run the whole job on the packaged model and tasks.

    Args:
        preset: `demo` (about ten minutes on two cores) or `smoke` (a few minutes, learns
            next to nothing).
        run: run folder; runs/PRESET where not given. A second call goes on where the first
            stopped.
        seed: of everything.
    """

    preset: Literal["demo", "smoke"] = "demo"
    run: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)


class Stages:
    """Announces each stage and notes how long it took, over interruptions."""

    def __init__(self, run: RunFolder, total: int) -> None:
        self.path, self.total, self.number = run.root / "seconds.json", total, 0
        self.seconds: dict[str, float] = {}
        self.begun = time.perf_counter()
        if self.path.exists():
            self.seconds = read_json(self.path, RunError)
            for name, value in self.seconds.items():
                check_number(self.path, name, value)

    @property
    def finished(self) -> list[str]:
        """Long stages of the estimate behind which a later one was begun."""
        after = {"teachers": "deltas", "generators": "evaluate", "evaluation": "generate"}
        return [stage for stage, later in after.items() if later in self.seconds]

    @contextmanager
    def stage(self, name: str, words: str) -> Iterator[None]:
        """Time a block; the time of an earlier, interrupted try is added."""
        self.number += 1
        print(f"\n[{self.number}/{self.total}] {words}", flush=True)
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = self.seconds.get(name, 0.0) + time.perf_counter() - start
            self.seconds[name] = round(spent, 1)
            write_json(self.path, self.seconds)


def demo(config: DemoConfig) -> None:
    """Run all steps; each is also a command of its own."""
    preset = PRESETS[config.preset]
    run = RunFolder(config.run or Path("runs") / config.preset)
    run.root.mkdir(parents=True, exist_ok=True)
    stages = Stages(run, 7)
    print(f"run folder: {run.root}")
    with stages.stage("load", "load the base model (converted once, about 20 s the first time)"):
        model, tokenizer = load_base_model()
        device, dtype = next(model.parameters()).device, next(model.parameters()).dtype
        print(f"{model.name_or_path} on {device} in {str(dtype).removeprefix('torch.')}")
        finished = stages.finished
        estimate = estimate_seconds(model, tokenizer, preset, config.seed, finished)
        print("estimate: " + ", ".join(f"{k} {v:.0f} s" for k, v in estimate.items()))
        minutes = sum(estimate.values()) / 60
        left = f" for what is left beside {' and '.join(finished)}" if finished else " in all"
        print(f"estimate: about {max(1, round(minutes))} min{left}")
    with stages.stage("teach", f"train {_teachers(preset)} teachers, several in each forward"):
        manifest = teach(
            TeachConfig(
                run.root,
                preset.tasks,
                preset.held_out,
                teachers_per_task=preset.teachers_per_task,
                optim=preset.teacher,
                seed=config.seed,
            ),
            model,
            tokenizer,
        )
    with stages.stage("deltas", "compute the delta cache"):
        summary = compute_cache(
            model,
            {entry.id: run.checkpoints / entry.path for entry in manifest.adapters},
            run.deltas,
            named_probes(PROBES),
            recommended_deltas(model),
            manifest.base_model,
        )
        print(f"{len(summary.computed)} computed, {len(summary.reused)} reused")
    with stages.stage("train", "train the generator, and controls without delta supervision"):
        trainings = _trainings(run, preset, config.seed)
        for training in trainings:
            train(training, model)
    with stages.stage("evaluate", "write adapters from unseen prompts and score the arms"):
        results = evaluate(
            EvaluateConfig(
                run.root,
                ("generator",),
                tuple(t.name for t in trainings if t.name != "generator"),
                ARMS,
                examples=preset.examples,
                parse_examples=0,
                seed=config.seed,
            ),
            model,
            tokenizer,
        )
    with stages.stage("generate", f"write an adapter from a sentence: {REQUEST!r}"):
        adapter = generate(
            GenerateConfig((REQUEST,), run.root, run.generated / "from_a_sentence", overwrite=True)
        )
        examples = _answers(model, tokenizer, manifest, adapter)
        write_json(run.root / "evaluation" / "answers.json", {"answers": examples})
    with stages.stage("report", "write the report"):
        make_report(ReportConfig(run.root))
    _closing(run, results, examples[0], stages)


def _teachers(preset: DemoPreset) -> int:
    return (len(preset.tasks) + len(preset.held_out)) * preset.teachers_per_task


def _trainings(run: RunFolder, preset: DemoPreset, seed: int) -> list[TrainConfig]:
    """The generator and a pair too small to hold all teachers, each beside its control.

    A decoder with as many codes as teachers comes close to their deltas by their weights alone;
    where it must leave something out, the delta term decides what.
    """
    full = TrainConfig(
        run.root,
        "generator",
        steps=preset.steps,
        batch_size=preset.batch_size,
        probes=PROBES,
        validate_every=max(1, preset.steps // 8),
        seed=seed,
    )
    small = replace(
        full,
        name="small",
        decoder=FullWidthConfig(codes=preset.small_codes),
        steps=preset.small_steps,
        validate_every=max(1, preset.small_steps // 8),
    )
    weights_only = MultiTask(lambda_delta=0.0)
    return [
        full,
        replace(full, name="weights_only", objective=weights_only),
        small,
        replace(small, name="small_weights_only", objective=weights_only),
    ]


@torch.no_grad()
def _answers(model: Any, tokenizer: Any, manifest: Manifest, adapter: Path) -> list[dict[str, str]]:
    """Questions of the first task answered by the base and by base + generated adapter.

    The first three test questions whose answers differ are taken; where none do, the first.
    """
    weights = load_adapter(adapter)
    found: list[dict[str, str]] = []
    same: list[dict[str, str]] = []
    for example in load_run_task(manifest, manifest.tasks[0]).test[:12]:
        answers = {
            "question": example.query,
            "gold": example.answer.strip(),
            "base": greedy_answer(model, tokenizer, example.query),
            "adapted": greedy_answer(model, tokenizer, example.query, weights),
        }
        (found if answers["base"] != answers["adapted"] else same).append(answers)
        if len(found) == 3:
            break
    return found or same[:1]


def _closing(run: RunFolder, results: Results, answer: dict[str, str], stages: Stages) -> None:
    """What the demo ends with: the table, one question, where the report is."""
    print("\n" + arms_table(results))
    for split in results.accuracy:
        gain = results.metrics[f"{split}.teacher_gain"]
        recovered = results.metrics[f"{split}.recovery_over_base"]
        sensitivity = results.metrics[f"{split}.condition_sensitivity"]
        recovered_words = "-" if recovered is None else f"{recovered:.0%}"
        sensitivity_words = "-" if sensitivity is None else f"{sensitivity:+.3f}"
        print(
            f"{split}: teacher - base {gain:+.3f}, generated recovers {recovered_words} of it, "
            f"generated - wrong condition {sensitivity_words}"
        )
    for key, cosines in results.delta_cosine.items():
        words = ", ".join(f"{name} {value:.3f}" for name, value in cosines.items())
        print(f"delta cosine, {key.replace('_', ' ')}: {words}")
    print(f"\n{answer['question']}")
    print(f"  right answer:        {answer['gold']}")
    print(f"  base:                {answer['base']}")
    print(f"  base + adapter from {REQUEST!r}: {answer['adapted']}")
    print(f"\n{results.scale}")
    seconds = time.perf_counter() - stages.begun
    print(f"took {seconds:.0f} s; report: {run.report}; numbers: {run.results}")
