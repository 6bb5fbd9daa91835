"""`llgbm-latentwire two-readers`: train one latent for two readers, then evaluate it with both."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.latentwire.commands.evaluate import asked_questions, slots_in_words
from llgbm.latentwire.commands.train import config_tree, merged
from llgbm.latentwire.config_tree import as_tree, overridden, structure
from llgbm.latentwire.reader import load_reader
from llgbm.latentwire.two_readers.compressor import SharedCompressor
from llgbm.latentwire.two_readers.config import TwoReadersConfig
from llgbm.latentwire.two_readers.evaluation import evaluate_readers
from llgbm.latentwire.two_readers.layout import FIRST, SECOND
from llgbm.latentwire.two_readers.results import TwoReadersEvaluation
from llgbm.latentwire.two_readers.training import SharedTraining
from llgbm.latentwire.two_readers.view import View


@dataclass(frozen=True)
class TwoReadersCommandConfig:
    """Train a compressor whose latents two frozen readers read, and swap slots between texts.

    A run that was interrupted goes on where it was; a finished one is evaluated again.

    Args:
        run: folder of the run.
        overrides: `path.to.key=value` words over the config, such as `second=gemma3-270m`,
            `compressor.layout.private=0.5` or `stages.0.steps=100`.
        config: a .toml or .json file, or the name of a packaged one. `two_readers` reads with
            Gemma 3 270M too: its packages are not installed by default, and its use is bound to
            the Gemma licence terms.
        dry_run: print the whole config and the parameters of every part; train nothing.
        overwrite: begin anew where the folder holds a run; other files in it stay.
        evaluate: measure both tables after training.
        questions: of that evaluation.
        split: `validation` while anything is still chosen, `test` at the very end.
        single_first: run of a compressor for the first reader alone, for a row beside.
        single_second: likewise for the second reader.
        batch_size: questions at once.
        seed: of swapped texts and of intervals.
    """

    run: Positional[Path]
    overrides: Positional[tuple[str, ...]] = ()
    config: str = "two_readers"
    dry_run: bool = False
    overwrite: bool = False
    evaluate: bool = True
    questions: int = 64
    split: str = "validation"
    single_first: Path | None = None
    single_second: Path | None = None
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, questions=self.questions, batch_size=self.batch_size)
        require_seed(self.seed)


def two_readers(command: TwoReadersCommandConfig) -> TwoReadersEvaluation | None:
    """Train and evaluate; see `TwoReadersCommandConfig`.

    Returns:
        What was measured; None where nothing was.

    Raises:
        ConfigError: what does not fit.
        ModelError: a reader that cannot be loaded.
        MissingPackageError: a packaged reader that is not installed; says the pip line.
        RunError: the folder holds another run.
    """
    config = read_config(command.config, command.overrides)
    first, second = load_reader(config.reader), load_reader(config.second)
    if command.dry_run:
        print(json.dumps(as_tree(config), indent=2))
        print(parameters_table(SharedCompressor(config.compressor, first, second, config.seed)))
        return None
    training = SharedTraining(config, first, second, command.run, command.overwrite)
    print(parameters_table(training.compressor))
    compressor = training.fit()
    print(f"{command.run}: trained; metrics in metrics.jsonl")
    if not command.evaluate:
        return None
    source = config.stages[-1].data.open(config.seed)
    examples, note = asked_questions(
        source.questions(command.split), config, command.split, command.questions
    )
    if note:
        print(f"{command.run}: {note}")
    given = {FIRST: command.single_first, SECOND: command.single_second}
    found = evaluate_readers(
        compressor,
        examples,
        {name: str(path) for name, path in given.items() if path is not None},
        batch_size=command.batch_size,
        seed=command.seed,
        scale=f"{len(examples)} {command.split} questions, "
        f"{slots_in_words(View(compressor, FIRST))}, "
        f"{config.compressor.layout.private:g} of them private" + (f"; {note}" if note else ""),
    )
    print(found.table())
    found.write(command.run)
    return found


def read_config(name: str, overrides: tuple[str, ...] | list[str] = ()) -> TwoReadersConfig:
    """A training's config from a file or a packaged name, changed by overrides.

    Raises:
        ConfigError: no such file, or what does not fit; names the nearest.
    """
    tree = merged(as_tree(TwoReadersConfig()), config_tree(name))
    return structure(TwoReadersConfig, overridden(tree, overrides))


def parameters_table(compressor: SharedCompressor) -> str:
    """Trained parameters of every part and slice, aligned."""
    counts: dict[str, int] = {}
    for name, each in compressor.trained().items():
        words = name.split(".")
        part = ".".join(words[:2]) if words[0] in ("pooler", "port") else words[0]
        counts[part] = counts.get(part, 0) + each.numel()
    lines = [f"{part:<16}{count:>12,}" for part, count in counts.items()]
    return "\n".join(["trained parameters", *lines, f"{'all':<16}{sum(counts.values()):>12,}"])
