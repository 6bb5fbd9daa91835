"""The main experiment: objectives at equal time, all arms on test families, what exposes deltas.

One run folder and one command, so that every number of a preset is of the same teachers.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from llgbm.deltas.atomic import write_json
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import RunError, mismatch, require_seed
from llgbm.deltas.json_files import read_json
from llgbm.generators.evaluate import EvaluateConfig, evaluate
from llgbm.generators.experiments.prepare import (
    prepare_teachers,
    preset_training,
    validated_five_times,
)
from llgbm.generators.experiments.prepared import Prepared
from llgbm.generators.experiments.presets import PRESETS, ExperimentPreset, PresetName
from llgbm.generators.experiments.run_ablations import AblationConfig, run_ablations
from llgbm.generators.experiments.run_composition import CompositionConfig, run_composition
from llgbm.generators.identify import IdentifiabilityConfig, identifiability
from llgbm.generators.retriever.train import TrainRetrieverConfig, train_retriever
from llgbm.generators.runs import FINISHED, RunFolder
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.training.train import train

# What a reader asks for beside the arms that are always scored. TIES and DARE of the nearest
# teachers are left to `llgbm evaluate --arms all`: each merge decomposes full updates.
ARMS = ("default", "multi_task", "gaussian", "teacher_noise", "rank1")
# Parts that end in a result file.
RESULTS = ("objectives", "evaluation", "composition", "identifiability")
# Queries of each task that are answered freely.
PARSED = 4
# Teachers whose adversary is built.
ADVERSARIES = 8


@dataclass(frozen=True)
class MainConfig:
    """Train, compare, evaluate, compose, and build the adversary, at one scale.

    Args:
        preset: sizes.
        run: run folder; runs/PRESET-experiments where not given. A second call goes on where the
            first stopped.
        out: folder that all result files are copied to.
        base_model: `smollm2-135m`, a local folder or a hub id.
        seed: of everything.
    """

    preset: PresetName = "demo"
    run: Path | None = None
    out: Path | None = None
    base_model: str = "smollm2-135m"
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)


def run_main(
    config: MainConfig, model: nn.Module | None = None, tokenizer: Any = None
) -> list[Path]:
    """Run all parts; returns the result files.

    Raises:
        RunError: the run folder holds other teachers or trainings.
        TaskError: a family without data.
    """
    preset = PRESETS[config.preset]
    root = config.run or Path("runs") / f"{config.preset}-experiments"
    run = RunFolder(root)
    if model is None:
        model, tokenizer = load_base_model(config.base_model)
    # Trained to the end; those that are compared at equal time stop on the way.
    seeds = {
        f"recommended-s{seed}": seed for seed in range(config.seed, config.seed + preset.seeds)
    }
    names = tuple(seeds)
    shared = (config.preset, root, None)
    parts: dict[str, tuple[Path, Callable[[], object]]] = {
        "teachers": (
            run.manifest,
            lambda: prepare_teachers(preset, run, config.base_model, config.seed, model, tokenizer),
        ),
        "objectives": (
            root / "experiments" / "main.json",
            lambda: run_ablations(
                AblationConfig("main", *shared, (), config.base_model, config.seed),
                model,
                tokenizer,
            ),
        ),
        "generators": (
            run.generator(names[-1]) / FINISHED,
            lambda: _train(preset, run, seeds, model),
        ),
        "evaluation": (
            run.results,
            lambda: _evaluate(config, root, names, model, tokenizer),
        ),
        "composition": (
            root / "experiments" / "composition.json",
            lambda: run_composition(
                CompositionConfig(
                    config.preset,
                    root,
                    names[0],
                    base_model=config.base_model,
                    seed=config.seed,
                ),
                model,
                tokenizer,
            ),
        ),
        "identifiability": (
            run.results.with_name("identifiability.json"),
            lambda: identifiability(IdentifiabilityConfig(root, teachers=ADVERSARIES), model),
        ),
    }
    clock = root / "experiments" / "parts.json"
    progress = _progress(clock, config)
    for name, (path, work) in parts.items():
        if name in progress["done"] and path.exists():
            continue
        print(f"\n[{name}]", flush=True)
        start = time.perf_counter()
        try:
            work()
            progress["done"].append(name)
        finally:
            spent = progress["seconds"].get(name, 0.0) + time.perf_counter() - start
            progress["seconds"][name] = round(spent, 1)
            write_json(clock, progress)
    seconds = progress["seconds"]
    print("\nseconds: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    files = {name: parts[name][0] for name in RESULTS}
    files["seconds"] = clock
    if config.out is None:
        return list(files.values())
    config.out.mkdir(parents=True, exist_ok=True)
    copied = []
    for name, path in files.items():
        target = config.out / f"{config.preset}-{name}.json"
        shutil.copyfile(path, target)
        copied.append(target)
        print(target)
    return copied


def _train(
    preset: ExperimentPreset, run: RunFolder, seeds: dict[str, int], model: nn.Module
) -> None:
    """Train the generators that are evaluated, on the recommended objective."""
    prepared = Prepared(run, Manifest.read(run.manifest), model)
    for name, seed in seeds.items():
        training = prepared.cached(preset_training(preset, run, name, model, seed))
        train(validated_five_times(training), model, prepared.inputs(training))


def _evaluate(
    config: MainConfig, root: Path, names: tuple[str, ...], model: nn.Module, tokenizer: Any
) -> None:
    """Train the retriever, which is an arm, and score all arms on test families."""
    examples = PRESETS[config.preset].examples
    train_retriever(TrainRetrieverConfig(root, seed=config.seed), model)
    scored = EvaluateConfig(
        root, names, arms=ARMS, examples=examples, parse_examples=PARSED, seed=config.seed
    )
    evaluate(scored, model, tokenizer)


def _progress(path: Path, config: MainConfig) -> dict[str, Any]:
    """What is done of this very job, with the seconds of each part over interruptions.

    Raises:
        RunError: the folder holds another job.
    """
    job = {
        "preset": config.preset,
        "sizes": json.loads(json.dumps(asdict(PRESETS[config.preset]))),
        "base_model": config.base_model,
        "seed": config.seed,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        return {"kind": "parts", "job": job, "done": [], "seconds": {}}
    found: dict[str, Any] = read_json(path, RunError)
    for key, value in job.items():
        if found.get("job", {}).get(key) != value:
            raise RunError(
                mismatch(path, key, f"{found.get('job', {}).get(key)} as in the run so far", value)
                + "; choose another run folder"
            )
    return found
