"""`llgbm sideways init`: a checkpoint to start from, that is predicted to have wanted metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from llgbm.deltas.errors import SettingError
from llgbm.generators.sideways.explore.find_start import (
    InitSearch,
    find_start,
    nearest_places,
    start_baselines,
)
from llgbm.generators.sideways.explore.meter import meter_of
from llgbm.generators.sideways.explore.output import check_output
from llgbm.generators.sideways.explore.proposals import (
    as_json,
    measure_latents,
    proposal_table,
    propose,
    write_proposals,
)
from llgbm.generators.sideways.explore.results import note_result
from llgbm.generators.sideways.model.files import SidewaysModel, load_sideways


@dataclass(frozen=True)
class InitConfig:
    """Propose a checkpoint for target metrics.

    Args:
        model: folder that `llgbm sideways train` made.
        target: METRIC=VALUE, one or several.
        out: folder of the decoded checkpoint.
        search: how.
        evaluate: measure it.
        baselines: measure the nearest checkpoint, the mean of the two and of the four nearest
            ones, the best run's last one and a random latent, too.
        evaluator: command that measures a checkpoint of yours; see `pareto`.
        overwrite: replace `out` where it exists.
    """

    model: Annotated[Path, tyro.conf.Positional]
    target: Annotated[tuple[str, ...], tyro.conf.Positional]
    out: Path = Path("start")
    search: InitSearch = field(default_factory=InitSearch)
    evaluate: bool = False
    baselines: bool = False
    evaluator: str | None = None
    overwrite: bool = False


def init(config: InitConfig) -> None:
    """Search, write, print; measure where asked.

    Raises:
        SettingError: no target, or a metric or a value that is none.
    """
    check_output(config.out, config.overwrite)
    model = load_sideways(config.model)
    wanted = read_target(model, config.target)
    meter = meter_of(model, config.evaluator)
    if config.evaluate or config.baselines:
        meter.check()
    latents = find_start(model, wanted, config.search)
    measured = measure_latents(model, latents, meter) if config.evaluate else None
    proposals = propose(model, ["start"], latents, measured)
    write_proposals(model, proposals, latents, meter, config.out, config.overwrite)
    print(proposal_table(proposals))
    baselines: dict[str, dict[str, float]] = {}
    if config.baselines:
        for name, blocks in start_baselines(model, wanted, config.search.seed).items():
            found = meter.measure(blocks)[0]
            baselines[name] = {metric: found[metric] for metric in model.metrics}
            print(f"{name}, measured: {_said(baselines[name])}")
    else:
        print(nearest_checkpoint(model, wanted))
    note_result(
        config.model,
        "init",
        {"target": wanted, "proposal": as_json(proposals[0]), "baselines": baselines},
    )
    print(f"{config.out / 'start'}: for " + ", ".join(f"{k} {v:g}" for k, v in wanted.items()))


def nearest_checkpoint(model: SidewaysModel, target: dict[str, float]) -> str:
    """The training checkpoint whose measured metrics are nearest to a target, in words."""
    record = model.collection.checkpoints[nearest_places(model, target)[0]]
    name = f"{record.run}/{record.step}"
    return f"nearest training checkpoint, measured: {name}: {_said(record.metrics)}"


def _said(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in metrics.items())


def read_target(model: SidewaysModel, words: tuple[str, ...]) -> dict[str, float]:
    """Metrics and their values of words METRIC=VALUE.

    Raises:
        SettingError: none, unknown ones, or no finite numbers.
    """
    found: dict[str, float] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in model.metrics:
            raise SettingError(f"target: expected one of {list(model.metrics)}, got {name!r}")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise SettingError(f"target: expected {name}=NUMBER, got {word!r}") from error
        if not abs(found[name]) < float("inf"):
            raise SettingError(f"target: expected a finite number, got {word!r}")
    if not found:
        raise SettingError(f"target: expected METRIC=VALUE of {list(model.metrics)}, got none")
    return found
