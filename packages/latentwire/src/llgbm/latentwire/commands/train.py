"""`llgbm-latentwire train`: train a compressor, then evaluate it."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from importlib.resources import files as resources
from pathlib import Path

from tyro.conf import Positional

from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.commands.evaluate import EvaluateConfig, evaluate_run
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.config_tree import Tree, as_tree, overridden, read_tree, structure
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import load_reader
from llgbm.latentwire.registry import unknown
from llgbm.latentwire.training.config import TrainConfig
from llgbm.latentwire.training.loop import CompressorTraining

CONFIGS = resources("llgbm.latentwire") / "configs"


@dataclass(frozen=True)
class TrainCommandConfig:
    """Train a compressor for a frozen reader, evaluate it, and leave everything in one folder.

    A run that was interrupted goes on where it was; a finished one is evaluated again.

    Args:
        run: folder of the run.
        overrides: `path.to.key=value` words over the config, such as `compressor.slots.ratio=8`,
            `compressor.encoder.name=byte` or `stages.0.steps=100`.
        config: a .toml or .json file, or the name of a packaged one (`recipe`, `smoke/byte`).
        dry_run: print the whole config and the parameters of every part; train nothing.
        overwrite: begin anew where the folder holds a run; other files in it stay.
        evaluate: measure the table after training.
        questions: of that evaluation, from the validation articles.
    """

    run: Positional[Path]
    overrides: Positional[tuple[str, ...]] = ()
    config: str = "recipe"
    dry_run: bool = False
    overwrite: bool = False
    evaluate: bool = True
    questions: int = 64

    def __post_init__(self) -> None:
        require_at_least(1, questions=self.questions)


def train(command: TrainCommandConfig) -> None:
    """Train and evaluate; see `TrainCommandConfig`."""
    config = read_config(command.config, command.overrides)
    reader = load_reader(config.reader)
    if command.dry_run:
        print(json.dumps(as_tree(config), indent=2))
        print(parameters_table(Compressor(config.compressor, reader, config.seed)))
        return
    training = CompressorTraining(config, reader, command.run, command.overwrite)
    print(parameters_table(training.compressor))
    training.fit()
    print(f"{command.run}: trained; metrics in metrics.jsonl")
    if command.evaluate:
        evaluate_run(EvaluateConfig(command.run, questions=command.questions))


def read_config(name: str, overrides: tuple[str, ...] | list[str] = ()) -> TrainConfig:
    """A training's config from a file or a packaged name, changed by overrides.

    Raises:
        ConfigError: no such file, or what does not fit; names the nearest.
    """
    return structure(TrainConfig, overridden(config_tree(name), overrides))


def config_tree(name: str, seen: tuple[str, ...] = ()) -> Tree:
    """The whole tree of a config file or of a packaged config.

    What a file leaves out is as in the config that it `extends`, or as the defaults are.

    Raises:
        ConfigError: no such file, one that extends itself; names the nearest packaged one.
    """
    path, packaged = Path(name), packaged_configs()
    if path.suffix not in (".toml", ".json"):
        if name not in packaged:
            raise ConfigError(f"config: {unknown(name, packaged)}, nor a .toml or .json file")
        path = packaged[name]
    given = read_tree(path)
    base = given.pop("extends", "")
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends: expected the name of a config, got {base!r}")
    if base in seen:
        raise ConfigError(f"{path}: extends: {base!r} extends itself")
    below = config_tree(base, (*seen, base)) if base else as_tree(TrainConfig())
    return merged(below, given)


def packaged_configs() -> dict[str, Path]:
    """Configs that come with the package, by name."""
    folder = Path(str(CONFIGS))
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for path in sorted(folder.rglob("*.toml"))
    }


def merged(base: Tree, over: Tree) -> Tree:
    """`base` with what `over` holds; a part of another name replaces the whole part."""
    result = dict(base)
    for key, value in over.items():
        old = base.get(key)
        result[key] = value
        if isinstance(value, dict) and isinstance(old, dict):
            same = value.get("name", old.get("name")) == old.get("name")
            result[key] = merged(old, value) if same else value
    return result


def parameters_table(compressor: Compressor) -> str:
    """Trained parameters of every part, aligned."""
    counts: dict[str, int] = {}
    for name, each in compressor.trained().items():
        part = name.split(".")[0]
        counts[part] = counts.get(part, 0) + each.numel()
    names = {each.name for each in fields(compressor.config)} | {"port"}
    lines = [f"{part:<12}{count:>12,}" for part, count in counts.items() if part in names]
    return "\n".join(["trained parameters", *lines, f"{'all':<12}{sum(counts.values()):>12,}"])
