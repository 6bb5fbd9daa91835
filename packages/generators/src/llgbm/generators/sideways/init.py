"""`llgbm sideways init`: a checkpoint to start from, that is predicted to have wanted metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from llgbm.deltas.errors import SettingError, require_at_least, require_seed
from llgbm.generators.sideways.explore.latent_space import LatentSpace
from llgbm.generators.sideways.explore.meter import meter_of
from llgbm.generators.sideways.explore.output import check_output
from llgbm.generators.sideways.explore.proposals import (
    as_json,
    proposal_table,
    propose,
    write_proposals,
)
from llgbm.generators.sideways.explore.results import note_result
from llgbm.generators.sideways.explore.search import climb, evolve, to_target
from llgbm.generators.sideways.model.files import SidewaysModel, load_sideways

Method = Literal["gradient", "cma"]
GRADIENT_STEPS, GENERATIONS, STARTS = 200, 40, 8


@dataclass(frozen=True)
class InitSearch:
    """How a start is looked for.

    Args:
        method: gradients from several latents, or CMA-ES.
        caution: how much a latent loses for each squared standard error, in units of a metric's
            spread.
        nearness: how much it loses for being far from the training checkpoints'.
        seed: of the starts.
    """

    method: Method = "gradient"
    caution: float = 0.5
    nearness: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(0, caution=self.caution, nearness=self.nearness)
        require_seed(self.seed)


@dataclass(frozen=True)
class InitConfig:
    """Propose a checkpoint for target metrics.

    Args:
        model: folder that `llgbm sideways train` made.
        target: METRIC=VALUE, one or several.
        out: folder of the decoded checkpoint.
        search: how.
        evaluate: measure it.
        evaluator: command that measures a checkpoint of yours; see `pareto`.
        overwrite: replace `out` where it exists.
    """

    model: Annotated[Path, tyro.conf.Positional]
    target: Annotated[tuple[str, ...], tyro.conf.Positional]
    out: Path = Path("start")
    search: InitSearch = field(default_factory=InitSearch)
    evaluate: bool = False
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
    if config.evaluate:
        meter.check()
    z = find_start(model, wanted, config.search)
    proposals = propose(model, ["start"], z, meter if config.evaluate else None)
    write_proposals(model, proposals, meter, config.out, config.overwrite)
    print(proposal_table(proposals))
    print(nearest_checkpoint(model, wanted))
    note_result(config.model, "init", {"target": wanted, "proposal": as_json(proposals[0])})
    print(f"{config.out / 'start'}: for " + ", ".join(f"{k} {v:g}" for k, v in wanted.items()))


def nearest_checkpoint(model: SidewaysModel, target: dict[str, float]) -> str:
    """The training checkpoint whose measured metrics are nearest to a target, in words."""
    table = model.train_table.metrics
    places = [model.metrics.index(name) for name in target]
    off = (table[:, places] - torch.tensor(list(target.values()))) / table[:, places].std(0)
    row = int(off.square().sum(1).argmin())
    place = model.split.places(model.collection, "train")[row]
    record = model.collection.checkpoints[place]
    said = ", ".join(f"{name} {value:.3f}" for name, value in record.metrics.items())
    return f"nearest training checkpoint, measured: {record.run}/{record.step}: {said}"


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


def find_start(model: SidewaysModel, target: dict[str, float], search: InitSearch) -> Tensor:
    """Latent [1, z] that is predicted to come nearest to a target, where it can be trusted."""
    space = LatentSpace.of(model)
    places = [model.metrics.index(name) for name in target]
    wanted = torch.tensor(list(target.values()))
    objective = to_target(model, space, places, wanted, search.caution, search.nearness)
    generator = torch.Generator().manual_seed(search.seed)
    with torch.no_grad():
        worth = objective(space.centres)
    # The best checkpoint, and some drawn ones.
    others = torch.randint(len(space.centres), (STARTS - 1,), generator=generator)
    starts = space.centres[[int(worth.argmax()), *others.tolist()]]
    if search.method == "cma":
        return evolve(space, starts[:1], objective, GENERATIONS, search.seed)
    ends = climb(space, starts, objective, GRADIENT_STEPS)
    with torch.no_grad():
        best = int(objective(ends).argmax())
    return ends[best : best + 1]
