"""`llgbm-latentwire experiment`: one table, or all of them, at a preset's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tyro.conf import Positional

from llgbm.deltas.bootstrap import Interval
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.ablation import Ablation, ablation_table
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.experiments.capacity import QUESTION, measure_capacity
from llgbm.latentwire.experiments.dimension import dimension_table
from llgbm.latentwire.experiments.heads import heads_table
from llgbm.latentwire.experiments.memorise import memorise_table
from llgbm.latentwire.experiments.presets import PRESETS, LatentwirePreset, PresetName
from llgbm.latentwire.experiments.recipe import embeddings_table, recipe_table
from llgbm.latentwire.experiments.seconds import seconds_spent
from llgbm.latentwire.experiments.tables import TABLES
from llgbm.latentwire.experiments.variants import Asked, folder_name, measured_runs, summarise
from llgbm.latentwire.registry import unknown

Measured = Mapping[str, list[Evaluation]]


@dataclass(frozen=True)
class ExperimentConfig:
    """Run a table of the seed again, or the recipe; runs that are there are not done again.

    The recipes' whole evaluations are written beside their tables, one a variant.

    Args:
        name: of a table, or `all`.
        run: folder of all trainings.
        preset: sizes: `smoke` (seconds on a tiny reader), `small` (two CPU cores) or `gpu`.
        reader: a base model's name, or the folder of a tuned reader: the same for every table.
        out: folder of the results, one JSON file a table; RUN/results where not given.
    """

    name: Positional[str]
    run: Path
    preset: PresetName = "small"
    reader: str = "smollm2-135m"
    out: Path | None = None

    def __post_init__(self) -> None:
        if self.name != "all" and self.name not in EXPERIMENTS:
            raise ConfigError(f"experiment: {unknown(self.name, ['all', *EXPERIMENTS])}")


def experiment(config: ExperimentConfig) -> list[Path]:
    """Run, print and write; return the result files."""
    written = []
    preset = PRESETS[config.preset]
    for name in EXPERIMENTS if config.name == "all" else [config.name]:
        path = (config.out or config.run / "results") / f"{config.preset}-latentwire-{name}.json"
        written.append(path)
        if name == CAPACITY:
            print(f"{name}: {QUESTION} ({config.preset})")
            measure_capacity(preset, config.reader, path)
            continue
        question, table = TABLES_BY_NAME[name]
        print(f"{name}: {question} ({config.preset})")
        folder = config.run / config.preset / name
        measured, row = table(folder, preset, config.reader)
        spent = seconds_spent(folder)
        result = replace(result_of(name, question, measured, row), seconds=spent)
        result.write(path)
        if name in RECIPES:
            for variant, evaluations in measured.items():
                evaluations[0].write(path.with_stem(f"{path.stem}-{folder_name(variant)}"))
        print(ablation_table(result.runs))
        print(f"{path}: {result.scale}; {spent / 60:.0f} min of steps and answers")
    return written


def result_of(name: str, question: str, measured: Measured, row: str) -> Ablation:
    """Sum up one table.

    Args:
        name: of the table.
        question: that it answers.
        measured: evaluations by variant, one a seed.
        row: of the evaluations that a variant is about.
    """
    first = next(iter(measured.values()))[0]
    runs: dict[str, Mapping[str, Interval]] = {
        variant: summarise(evaluations, row) for variant, evaluations in measured.items()
    }
    seeds = tuple(range(max(len(evaluations) for evaluations in measured.values())))
    return Ablation(name, question, (), seeds, first.scale, first.environment, runs)


def _table(name: str) -> Callable[[Path, LatentwirePreset, str], tuple[Measured, str]]:
    def run(folder: Path, preset: LatentwirePreset, reader: str) -> tuple[Measured, str]:
        trainings = {
            (variant, 0): read_config("recipe", [f"reader={reader}", *words])
            for variant, words in TABLES[name].variants(preset).items()
        }
        return measured_runs(folder, trainings, Asked(preset.questions)), "latent"

    return run


TABLES_BY_NAME: Mapping[
    str, tuple[str, Callable[[Path, LatentwirePreset, str], tuple[Measured, str]]]
] = {
    "dimension": ("How many numbers a token does a reader need (PCA)?", dimension_table),
    **{name: (table.question, _table(name)) for name, table in TABLES.items()},
    "memorise": ("Can a compressor learn a few texts by heart?", memorise_table),
    "heads": ("What is left where every head keeps its own keys and values?", heads_table),
    "recipe": ("What does the recipe reach, by keys and values?", recipe_table),
    "recipe-embeddings": ("What does the recipe reach, by embeddings?", embeddings_table),
}
CAPACITY, RECIPES = "capacity", ("recipe", "recipe-embeddings", "heads")
EXPERIMENTS = (CAPACITY, *TABLES_BY_NAME)
