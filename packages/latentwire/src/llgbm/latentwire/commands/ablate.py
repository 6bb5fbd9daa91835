"""`llgbm-latentwire ablate`: train every combination of swept settings, and one table of all."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.commands.evaluate import EVALUATION, EvaluateConfig, evaluate_run
from llgbm.latentwire.commands.train import read_config
from llgbm.latentwire.config_tree import swept
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.ablation import ABLATION, Ablation
from llgbm.latentwire.evaluation.evaluate import BUDGET, TEXT
from llgbm.latentwire.evaluation.pairing import row_difference, row_interval
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.reader import load_reader
from llgbm.latentwire.training.loop import CompressorTraining

SHUFFLED, LATENT = "shuffled", "latent"
ROW_NAMES = (TEXT, BUDGET, SHUFFLED, LATENT)


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
        ConfigError: a setting that does not exist; before anything is trained.
    """
    combinations = {run_name(words): words for words in swept(config.sweep)}
    trainings = {
        (name, seed): read_config(config.config, [*words, f"seed={seed}"])
        for name, words in combinations.items()
        for seed in config.seeds
    }
    if config.dry_run:
        for name, seed in trainings:
            print(f"{name}, seed {seed}")
        return {}
    found: dict[str, list[Evaluation]] = {name: [] for name in combinations}
    for (name, seed), training in trainings.items():
        run = config.folder / name / f"seed-{seed}"
        path = run / EVALUATION
        if not path.exists():
            reader = load_reader(training.reader)
            CompressorTraining(training, reader, run).fit()
            asked = EvaluateConfig(run, config.questions, rows=ROW_NAMES, schemes=())
            evaluate_run(asked)
        found[name].append(Evaluation.read(path))
    summary = {name: summarise(evaluations) for name, evaluations in found.items()}
    print(ablation_table(summary))
    first = next(iter(found.values()))[0]
    Ablation(
        sweep=config.sweep,
        seeds=config.seeds,
        scale=first.scale,
        environment=first.environment,
        runs=summary,
    ).write(config.folder / ABLATION)
    return found


def run_name(words: Sequence[str]) -> str:
    """Folder of a combination: its last keys and values."""
    parts = [
        f"{path.rsplit('.', 1)[-1] if not path.endswith('.name') else path.split('.')[-2]}-{value}"
        for path, _, value in (word.partition("=") for word in words)
    ]
    return re.sub(r"[^\w.-]+", "_", "+".join(parts)) or "default"


def summarise(evaluations: Sequence[Evaluation]) -> dict[str, Interval]:
    """F1 of the latents and of their rivals, over examples and seeds."""
    tables = [evaluation.answers for evaluation in evaluations]
    return {
        "f1": row_interval(tables, LATENT),
        "em": row_interval(tables, LATENT, "em"),
        "nll": row_interval(tables, LATENT, "nll"),
        "text": row_interval(tables, TEXT),
        "budget": row_interval(tables, BUDGET),
        "minus_budget": row_difference(tables, LATENT, BUDGET),
        "minus_shuffled": row_difference(tables, LATENT, SHUFFLED),
    }


def ablation_table(summary: Mapping[str, Mapping[str, Interval]]) -> str:
    """Runs as aligned text."""
    width = max(map(len, summary))
    lines = [f"{'':<{width}}  {'F1':>6}  {'text':>6}  {'- budget':>24}  {'- shuffled':>24}"]
    for name, numbers in summary.items():
        budget, shuffled = numbers["minus_budget"], numbers["minus_shuffled"]
        lines.append(
            f"{name:<{width}}  {numbers['f1'].mean:6.3f}  {numbers['text'].mean:6.3f}  "
            f"{words(budget):>24}  {words(shuffled):>24}"
        )
    return "\n".join(lines)


def words(found: Interval) -> str:
    """A difference with its interval."""
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
