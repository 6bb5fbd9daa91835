"""`llgbm sideways pareto`: checkpoints that are predicted to trade metrics off best."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.deltas.peft_format import check_output
from llgbm.generators.sideways.explore.aims import Aims
from llgbm.generators.sideways.explore.front import (
    hypervolume,
    reference_point,
    spread_over_front,
)
from llgbm.generators.sideways.explore.latent_space import LatentSpace
from llgbm.generators.sideways.explore.meter import meter_of
from llgbm.generators.sideways.explore.proposals import (
    as_json,
    proposal_table,
    propose,
    write_proposals,
)
from llgbm.generators.sideways.explore.results import note_result
from llgbm.generators.sideways.explore.search import cautious, climb, scalarised
from llgbm.generators.sideways.model.files import SidewaysModel, load_sideways

Latents = Literal["both", "sampled", "optimised"]
CLIMBS, CLIMB_STEPS = 64, 150


@dataclass(frozen=True)
class FrontSearch:
    """How a front is looked for.

    Args:
        proposals: at most so many.
        samples: latents drawn.
        latents: drawn ones, ones that gradients climbed to, or both.
        caution: standard errors that are taken off a prediction before it counts.
        nearness: how much a latent loses for being far from the training checkpoints'.
        seed: of the draws.
    """

    proposals: int = 12
    samples: int = 2048
    latents: Latents = "both"
    caution: float = 1.0
    nearness: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, proposals=self.proposals, samples=self.samples)
        require_at_least(0, caution=self.caution, nearness=self.nearness)
        require_seed(self.seed)


@dataclass(frozen=True)
class ParetoConfig:
    """Propose checkpoints along the front of some metrics.

    Args:
        model: folder that `llgbm sideways train` made.
        out: folder of the decoded checkpoints, PEFT folders of adapter runs.
        metrics: of the front; of adapter runs gain and retention, else all, where empty.
        minimise: those of which less is better.
        search: how.
        evaluate: decode and measure every proposal.
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
    z = find_front(model, aims, config.search)
    names = [f"{place:03d}" for place in range(len(z))]
    proposals = propose(model, names, z, meter if config.evaluate else None)
    write_proposals(model, proposals, meter, config.out, config.overwrite)
    print(proposal_table(proposals))
    seen = aims.pick(model.collection.metric_table())
    trained = aims.pick(model.train_table.metrics)
    reference = reference_point(trained)
    predicted = torch.tensor([[each.predicted[name] for name in aims.names] for each in proposals])
    volumes = {
        "training checkpoints": hypervolume(trained, reference),
        "all checkpoints": hypervolume(seen, reference),
        "proposals, predicted": hypervolume(predicted * aims.signs, reference),
    }
    if config.evaluate:
        measured = torch.tensor([[each.measured[n] for n in aims.names] for each in proposals
                                 if each.measured is not None])  # fmt: skip
        volumes["proposals, measured"] = hypervolume(measured * aims.signs, reference)
    for name, value in volumes.items():
        print(f"hypervolume, {name}: {value:.4f}")
    note_result(
        config.model,
        "pareto",
        {
            "metrics": list(aims.names),
            "signs": aims.signs.tolist(),
            "reference": aims.turn_back(reference).tolist(),
            "proposals": [as_json(each) for each in proposals],
            "hypervolume": volumes,
        },
    )
    print(f"{config.out}: {len(proposals)} checkpoints")


def find_front(model: SidewaysModel, aims: Aims, search: FrontSearch) -> Tensor:
    """Latents [n, z] that together are predicted to dominate most, cautiously."""
    space = LatentSpace.of(model)
    generator = torch.Generator().manual_seed(search.seed)
    drawn = space.sample(search.samples, generator)
    candidates = [drawn] if search.latents != "optimised" else []
    if search.latents != "sampled":
        weights = torch.rand(CLIMBS, len(aims.names), generator=generator).clamp_min(1e-3)
        weights = weights / weights.sum(-1, keepdim=True)
        objective = scalarised(model, space, aims, weights, search.caution, search.nearness)
        starts = space.centres[torch.randint(len(space.centres), (CLIMBS,), generator=generator)]
        candidates.append(climb(space, starts, objective, CLIMB_STEPS))
    z = torch.cat(candidates)
    with torch.no_grad():
        points = cautious(model, aims, z, search.caution)
        # Drawn latents are paid no heed to how strange they are until here.
        points = (
            points
            - search.nearness
            * (space.strangeness(z)[:, None] - 0.5).clamp_min(0)
            * (model.vae.metric_scale.spread[list(aims.places)])
        )
    reference = reference_point(aims.pick(model.train_table.metrics))
    chosen = spread_over_front(points, reference, search.proposals)
    return z[chosen]
