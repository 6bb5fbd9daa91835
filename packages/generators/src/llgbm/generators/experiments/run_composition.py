"""The composition experiment from teachers to table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import require_seed
from llgbm.deltas.recommended import recommended_deltas
from llgbm.generators.experiments.composition import compose
from llgbm.generators.experiments.composition_results import CompositionResults, composition_table
from llgbm.generators.experiments.prepare import (
    prepare_deltas,
    prepare_teachers,
    preset_training,
    validated_five_times,
)
from llgbm.generators.experiments.presets import PRESETS, PresetName
from llgbm.generators.generator import LoRAGenerator
from llgbm.generators.retriever.predictor import DeltaPredictor
from llgbm.generators.retriever.train import TrainRetrieverConfig, train_retriever
from llgbm.generators.runs import RunFolder
from llgbm.generators.training.train import train

NAME = "composition"


@dataclass(frozen=True)
class CompositionConfig:
    """Ask whether deltas of mixtures add up, and what mixtures lose.

    Args:
        preset: sizes.
        run: run folder; experiments of one preset share its teachers. runs/PRESET-experiments
            where not given.
        generator: a trained one of the run; one is trained where not given.
        out: file that the results are copied to.
        base_model: `smollm2-135m`, a local folder or a hub id.
        seed: of everything.
    """

    preset: PresetName = "demo"
    run: Path | None = None
    generator: str = ""
    out: Path | None = None
    base_model: str = "smollm2-135m"
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)


def run_composition(
    config: CompositionConfig, model: nn.Module | None = None, tokenizer: Any = None
) -> CompositionResults:
    """Train what is missing, compare, write composition.json, print the tables.

    Args:
        config: settings.
        model: the loaded base; loaded here where None.
        tokenizer: of the base.

    Raises:
        RunError: the run folder holds other teachers or trainings.
        TaskError: a family without data.
    """
    preset = PRESETS[config.preset]
    run = RunFolder(config.run or Path("runs") / f"{config.preset}-experiments")
    if model is None:
        model, tokenizer = load_base_model(config.base_model)
    print(f"{NAME}: are deltas additive, and what do mixtures lose? (run folder {run.root})")
    manifest = prepare_teachers(preset, run, config.base_model, config.seed, model, tokenizer)
    prepare_deltas(run, manifest, model, "generic", recommended_deltas(model))
    if not config.generator:
        training = preset_training(preset, run, NAME, model, config.seed)
        train(validated_five_times(training), model)
    train_retriever(TrainRetrieverConfig(run.root, seed=config.seed), model)
    scale = (
        f"{config.base_model}, preset {config.preset}: pairs of {len(preset.tasks)} seen tasks, "
        f"one teacher of each task, one seed, {preset.examples} validation examples a task; "
        "packaged evaluation data split again, fixed seed"
    )
    results = compose(
        run,
        manifest,
        preset,
        LoRAGenerator.load(run.generator(config.generator or NAME)).eval(),
        DeltaPredictor.load(run.retriever("retriever")).eval(),
        model,
        tokenizer,
        scale,
        config.seed,
    )
    path = run.experiments / f"{NAME}.json"
    for place in (path, config.out):
        if place is not None:
            results.write(place)
    print(composition_table(results))
    print(f"{config.out or path}: {results.scale}")
    return results
