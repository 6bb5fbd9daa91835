"""`llgbm evaluate`: score all arms on examples that nothing was trained on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from llgbm.deltas.atomic import write_json, write_text
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.errors import RunError, require_at_least
from llgbm.deltas.fingerprint import file_fingerprint, text_fingerprint
from llgbm.deltas.json_files import read_json
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.spec import device_of
from llgbm.deltas.tasks import known_tasks
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.adapters import ArmAdapters, EvaluatedTask
from llgbm.generators.evaluation.arms import ARMS
from llgbm.generators.evaluation.behaviour_check import delta_cosines
from llgbm.generators.evaluation.bootstrap import interval
from llgbm.generators.evaluation.environment import environment
from llgbm.generators.evaluation.metrics import split_metrics
from llgbm.generators.evaluation.multiple_choice import score_choices
from llgbm.generators.evaluation.results import SPLITS, Results
from llgbm.generators.evaluation.table import arms_table
from llgbm.generators.generate import find_generator, save_generated
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.training.inputs import load_run_task
from llgbm.generators.training.probes import trained_probes

ArmOutcomes = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True)
class EvaluateConfig:
    """Score every arm on test examples of every task of a run.

    Args:
        run: run folder with teachers, delta cache and a generator.
        generator: name of the generator; the run's only one, or `generator`, where empty.
        examples: test examples scored of each task.
        condition_prompts: test queries that make a task's condition; they are not scored.
        held_out_probes: probes that no generator was trained on, to check behaviour by.
        seed: of the random arm, the wrong conditions and the bootstrap.
    """

    run: Path
    generator: str = ""
    examples: int = 100
    condition_prompts: int = 8
    held_out_probes: str = "commonsense"
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, examples=self.examples, condition_prompts=self.condition_prompts)


def evaluate(
    config: EvaluateConfig, model: nn.Module | None = None, tokenizer: Any = None
) -> Results:
    """Score, write results.json, scores.jsonl and the generated adapters, print the table.

    Raises:
        RunError: parts of the run are missing.
    """
    run = RunFolder(config.run)
    named_probes(config.held_out_probes)  # an unknown name is told before the work
    manifest = Manifest.read(run.manifest)
    folder = run.generator(config.generator) if config.generator else find_generator(config.run)
    generator = LoRAGenerator.load(folder)
    if generator.metadata.get("base_fingerprint") != manifest.base_fingerprint:
        raise RunError(f"{folder}: base model: expected the one of {run.manifest}, got another")
    if model is None:
        model, tokenizer = load_base_model(manifest.base_model)
    held_out = {entry.task for entry in manifest.select(held_out=True)}
    tasks = [
        EvaluatedTask.of(
            load_run_task(manifest, name),
            name in held_out,
            config.condition_prompts,
            config.examples,
        )
        for name in manifest.tasks
    ]
    probes, spec = trained_probes(generator.metadata)
    cache = DeltaCache.open(
        run.deltas, manifest.base_fingerprint, named_probes(probes), spec, manifest.base_model
    )
    train_entries = manifest.select(held_out=False)
    deltas = cache.load_all({entry.id: entry.fingerprint for entry in train_entries})
    arms = ArmAdapters(run, manifest, generator, tasks, deltas, config.seed)
    key = text_fingerprint(
        {
            "generator": file_fingerprint(folder / "generator.safetensors"),
            "teachers": [entry.fingerprint for entry in manifest.adapters],
            "config": json.loads(json.dumps(asdict(config), default=str)),
        }
    )
    outcomes = _outcomes(_score(model, tokenizer, tasks, arms, run, key), tasks)
    for index, item in enumerate(tasks):
        out = run.generated / item.task.name
        save_generated(generator, arms.generated.select([index]), item.condition, out)
    splits = {split: [i.task.name for i in tasks if i.split == split] for split in SPLITS}
    by_split = {
        split: {arm: {name: outcomes[arm][name] for name in names} for arm in outcomes}
        for split, names in splits.items()
        if names
    }
    metrics: dict[str, float | None] = {}
    for split, found in by_split.items():
        metrics |= split_metrics(found, split)
    results = Results(
        _scale(manifest, tasks),
        environment(config.seed, device_of(model), next(model.parameters()).dtype),
        {
            split: {arm: interval(values, config.seed) for arm, values in found.items()}
            for split, found in by_split.items()
        },
        {
            item.task.name: {
                arm: interval({item.task.name: outcomes[arm][item.task.name]}, config.seed)
                for arm in outcomes
            }
            for item in tasks
        },
        {item.task.name: item.split for item in tasks},
        metrics,
        delta_cosines(run, manifest, model, config.held_out_probes),
        _seconds(run),
    )
    results.write(run.results)
    print(arms_table(results))
    print(f"{run.results}: {results.scale}")
    return results


def _score(
    model: nn.Module,
    tokenizer: Any,
    tasks: list[EvaluatedTask],
    arms: ArmAdapters,
    run: RunFolder,
    key: str,
) -> list[dict[str, Any]]:
    """Score each task's distinct adapters together; one record an example.

    Finished tasks are kept under `key`, so that an interrupted evaluation goes on after them.
    """
    records: list[dict[str, Any]] = []
    total = sum(len(item.examples) for item in tasks)
    parts = [run.results.with_name(f".{item.task.name}.json") for item in tasks]
    with tqdm(total=total, desc="evaluation", unit="example", mininterval=1.0) as bar:
        for index, (item, part) in enumerate(zip(tasks, parts, strict=True)):
            kept = read_json(part, RunError) if part.exists() else {}
            if kept.get("key") == key:
                records += kept["records"]
                bar.update(len(item.examples))
                continue
            pool = arms.pool(index)
            together = LoRAWeights.concatenate(pool.weights).to(device_of(model))
            scores = score_choices(model, tokenizer, item.examples, together, progress=bar)
            predictions = scores.predictions()
            made = [
                {
                    "task": item.task.name,
                    "split": item.split,
                    "example": example,
                    "gold": int(scores.gold[example]),
                    "chosen": {
                        arm: predictions[pool.arms[arm], example].tolist()
                        for arm in ARMS
                        if arm in pool.arms
                    },
                }
                for example in range(len(item.examples))
            ]
            write_json(part, {"key": key, "records": made})
            records += made
    write_text(run.scores, "".join(json.dumps(record) + "\n" for record in records))
    for part in parts:
        part.unlink(missing_ok=True)
    return records


def _outcomes(records: list[dict[str, Any]], tasks: list[EvaluatedTask]) -> ArmOutcomes:
    """Arm -> task -> share of the arm's adapters that chose right, by example."""
    outcomes: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for arm, chosen in record["chosen"].items():
            right = sum(choice == record["gold"] for choice in chosen) / len(chosen)
            outcomes.setdefault(arm, {}).setdefault(record["task"], []).append(right)
    # An arm that some task lacks (no description) would compare different tasks.
    return {
        arm: {task: np.array(values) for task, values in found.items()}
        for arm, found in outcomes.items()
        if len(found) == len(tasks)
    }


def _scale(manifest: Manifest, tasks: list[EvaluatedTask]) -> str:
    """What the numbers are of, in a line."""
    seen = sum(item.split == "seen" for item in tasks)
    examples = sorted({len(item.examples) for item in tasks})
    packaged = sum(item.task.name in known_tasks() for item in tasks)
    parts = ["packaged evaluation data split again, fixed seed"] if packaged else []
    parts += [f"{len(tasks) - packaged} own tasks"] if packaged < len(tasks) else []
    source = ", ".join(parts)
    counts = "/".join(map(str, examples))
    return (
        f"{manifest.base_model}, {seen} seen and {len(tasks) - seen} held-out tasks, "
        f"{len(manifest.adapters)} teachers, {counts} test examples a task; {source}"
    )


def _seconds(run: RunFolder) -> dict[str, float]:
    """Wall-clock seconds of the steps so far, where the demo noted them."""
    path = run.root / "seconds.json"
    return read_json(path, RunError) if path.exists() else {}
