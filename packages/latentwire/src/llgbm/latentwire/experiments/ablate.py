"""`llgbm-latentwire ablate`: train every combination of swept settings, and one table of all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.config_tree import as_tree, swept
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.ablation import ABLATION, Ablation, ablation_table
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.experiments.seconds import seconds_spent
from llgbm.latentwire.experiments.variants import Asked, folder_name, measured_runs, summarise
from llgbm.latentwire.training.config import TrainConfig


@dataclass(frozen=True)
class AblateConfig:
    """Train and evaluate every combination of swept settings; seeds are paired.

    Args:
        folder: of all runs and of ablation.json; runs that are finished are not done again.
        sweep: `path.to.key=value,value` words; a word with one value holds for all runs.
        config: a file, or a packaged config's name.
        seeds: of every combination.
        questions: of each evaluation, from the validation articles.
        dry_run: list the runs and do nothing.
    """

    folder: Positional[Path]
    sweep: Positional[tuple[str, ...]] = ()
    config: str = "recipe"
    seeds: tuple[int, ...] = (0,)
    questions: int = 64
    dry_run: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, questions=self.questions)
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"seeds: expected different ones, at least one, got {self.seeds}")


def ablate(config: AblateConfig) -> dict[str, list[Evaluation]]:
    """Run what is missing, print the table, write ablation.json.

    Returns:
        Evaluations of every combination, one a seed.

    Raises:
        ConfigError: a setting that does not exist, or a combination twice; before anything is
            trained.
    """
    if any(word.partition("=")[0].strip() == "seed" for word in config.sweep):
        raise ConfigError("sweep: seed: expected seeds as --seeds, which pairs them")
    choices = swept(config.sweep)
    combinations = {run_name(words): words for words in choices}
    if len(combinations) < len(choices):
        names = [run_name(words) for words in choices]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"sweep: expected different combinations, got {twice!r} twice")
    trainings = {
        (name, seed): read_config(config.config, [*words, f"seed={seed}"])
        for name, words in combinations.items()
        for seed in config.seeds
    }
    _check_different(trainings)
    if config.dry_run:
        for name, seed in trainings:
            print(f"{name}, seed {seed}")
        return {}
    found = measured_runs(config.folder, trainings, Asked(config.questions))
    summary = {name: summarise(evaluations) for name, evaluations in found.items()}
    print(ablation_table(summary))
    first = next(iter(found.values()))[0]
    Ablation(
        name="ablate",
        question="What do these settings change?",
        sweep=config.sweep,
        seeds=config.seeds,
        scale=first.scale,
        environment=first.environment,
        runs=summary,
        seconds=seconds_spent(config.folder),
    ).write(config.folder / ABLATION)
    return found


def _check_different(trainings: Mapping[tuple[str, int], TrainConfig]) -> None:
    """Refuse combinations that are the same training, as 2 and 2.0 are."""
    seen: dict[str, str] = {}
    for (name, _), training in trainings.items():
        settings = json.dumps(as_tree(training), sort_keys=True)
        if seen.setdefault(settings, name) != name:
            raise ConfigError(
                f"sweep: expected different trainings, got {seen[settings]!r} and {name!r}, which "
                "are the same"
            )


def run_name(words: Sequence[str]) -> str:
    """Folder of a combination: its last keys and values."""
    parts = [
        f"{path.rsplit('.', 1)[-1] if not path.endswith('.name') else path.split('.')[-2]}-{value}"
        for path, _, value in (word.partition("=") for word in words)
    ]
    return folder_name("+".join(parts)) or "default"
