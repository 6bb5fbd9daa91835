"""`llgbm sideways pareto`: checkpoints that are predicted to trade metrics off best."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
import tyro

from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.anchored import Anchored, concatenate
from llgbm.generators.sideways.explore.arms import INTERPOLATION, FrontArms
from llgbm.generators.sideways.explore.find_front import FrontSearch, find_candidates, find_front
from llgbm.generators.sideways.explore.front import hypervolume
from llgbm.generators.sideways.explore.meter import Meter, meter_of
from llgbm.generators.sideways.explore.output import check_output
from llgbm.generators.sideways.explore.proposals import (
    as_json,
    measure_blocks,
    measure_latents,
    proposal_table,
    propose,
    write_proposals,
)
from llgbm.generators.sideways.explore.results import note_result
from llgbm.generators.sideways.model.files import SidewaysModel, load_sideways


@dataclass(frozen=True)
class ParetoConfig:
    """Propose checkpoints along the front of some metrics.

    Args:
        model: folder that `llgbm sideways train` made.
        out: folder of the decoded checkpoints, PEFT folders of adapter runs.
        metrics: of the front; of adapter runs gain and retention, else all, where empty.
        minimise: those of which less is better.
        search: how.
        evaluate: decode and measure candidates, and propose those that dominate most as measured.
        baselines: measure as many of plain weight interpolation, soups, the best run, the nearest
            and the best checkpoints and random latents, too.
        evaluator: command that measures a checkpoint of yours: `{checkpoint}` stands for its path,
            the last line that it prints is JSON.
        overwrite: replace `out` where it exists.
    """

    model: Annotated[Path, tyro.conf.Positional]
    out: Path = Path("front")
    metrics: tuple[str, ...] = ()
    minimise: tuple[str, ...] = ()
    search: FrontSearch = field(default_factory=FrontSearch)
    evaluate: bool = False
    baselines: bool = False
    evaluator: str | None = None
    overwrite: bool = False


def pareto(config: ParetoConfig) -> None:
    """Search, write, print; measure where asked.

    Raises:
        RunError: no model.
        SettingError: unknown metrics, or nothing that measures.
    """
    check_output(config.out, config.overwrite)
    model = load_sideways(config.model)
    aims = Aims.of(model, config.metrics, config.minimise)
    meter = meter_of(model, config.evaluator)
    if config.evaluate or config.baselines:
        meter.check()
    arms = FrontArms(model, aims, config.search.proposals)
    latents, measured = _search(model, arms, config.search, meter if config.evaluate else None)
    names = [f"{place:03d}" for place in range(len(latents))]
    proposals = propose(model, names, latents, measured)
    print(proposal_table(proposals))
    predicted = torch.tensor([[each.predicted[name] for name in aims.names] for each in proposals])
    volumes = {
        "all training checkpoints": hypervolume(arms.points, arms.reference),
        "proposals, predicted": hypervolume(predicted * aims.signs, arms.reference),
    }
    if measured is not None:
        volumes["proposals, measured"] = arms.volume(measured)
    if config.baselines:
        volumes |= _baselines(arms, latents, config.search, meter, config.evaluate)
    for name, value in volumes.items():
        print(f"hypervolume, {name}: {value:.4f}")
    write_proposals(model, proposals, latents, meter, config.out, config.overwrite)
    note_result(
        config.model,
        "pareto",
        {
            "metrics": list(aims.names),
            "signs": aims.signs.tolist(),
            "reference": aims.turn_back(arms.reference).tolist(),
            "proposals": [as_json(each) for each in proposals],
            "hypervolume": volumes,
        },
    )
    print(f"{config.out}: {len(proposals)} checkpoints")


def _search(
    model: SidewaysModel, arms: FrontArms, search: FrontSearch, meter: Meter | None
) -> tuple[Anchored, list[dict[str, float]] | None]:
    """What is proposed; where there is a meter, the best candidates as measured."""
    if meter is None:
        return find_front(model, arms.aims, search), None
    candidates = concatenate(find_candidates(model, arms.aims, search))
    measured = measure_latents(model, candidates, meter)
    chosen = arms.best(measured)
    return candidates.select(chosen), [measured[row] for row in chosen]


def _baselines(
    arms: FrontArms, latents: Anchored, search: FrontSearch, meter: Meter, choose: bool
) -> dict[str, float]:
    """Volumes as measured; interpolation is chosen as proposals are, of as many candidates."""
    found = {
        name: arms.volume(measure_blocks(meter, read()))
        for name, read in arms.baselines(latents, search.seed).items()
    }
    most = search.proposals * (search.tried if choose else 1)
    measured = measure_blocks(meter, arms.read(arms.between(most)))
    found[INTERPOLATION] = arms.volume([measured[row] for row in arms.best(measured)])
    return found
