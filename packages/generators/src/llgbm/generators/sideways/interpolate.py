"""`llgbm sideways interpolate`: the way between two checkpoints, in latent and in weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from llgbm.deltas import atomic
from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import require_at_least
from llgbm.generators.sideways.explore.anchored import Blocks
from llgbm.generators.sideways.explore.meter import Meter, meter_of
from llgbm.generators.sideways.explore.output import INDEX, check_output
from llgbm.generators.sideways.explore.paths import (
    latent_of,
    latent_path,
    place_of,
    straight_path,
    through_ends,
)
from llgbm.generators.sideways.explore.results import note_result
from llgbm.generators.sideways.model.files import SidewaysModel, load_sideways

LATENT, STRAIGHT = "latent", "weights"


@dataclass(frozen=True)
class InterpolateConfig:
    """Walk from one checkpoint of the collection to another.

    Args:
        model: folder that `llgbm sideways train` made.
        first: RUN/STEP, or RUN for its last step.
        last: likewise.
        steps: points, both ends among them.
        out: folder of the points of the way through the latent space.
        decoded: leave out what decoding misses of both ends; else the ways begin and end at the
            checkpoints themselves.
        evaluate: measure every point of both ways.
        evaluator: command that measures a checkpoint of yours; see `pareto`.
        overwrite: replace `out` where it exists.
    """

    model: Annotated[Path, tyro.conf.Positional]
    first: Annotated[str, tyro.conf.Positional]
    last: Annotated[str, tyro.conf.Positional]
    steps: int = 7
    out: Path = Path("path")
    decoded: bool = False
    evaluate: bool = False
    evaluator: str | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_at_least(2, steps=self.steps)


def interpolate(config: InterpolateConfig) -> None:
    """Write the way, print what is predicted and measured along it.

    Raises:
        SettingError: unknown checkpoints, or nothing that measures.
    """
    check_output(config.out, config.overwrite)
    model = load_sideways(config.model)
    meter = meter_of(model, config.evaluator)
    if config.evaluate:
        meter.check()
    places = place_of(model, config.first), place_of(model, config.last)
    first, last = (model.collection.weights(place) for place in places)
    z = latent_path(latent_of(model, places[0]), latent_of(model, places[1]), config.steps)
    if config.decoded:
        with torch.no_grad():
            way = model.weights(z)
    else:
        way = through_ends(model, z, first, last)
    ways = {LATENT: way, STRAIGHT: straight_path(first, last, config.steps)}
    found = {
        name: {
            "predicted": _predicted(model, blocks),
            "measured": _measured(meter, blocks, config.steps) if config.evaluate else None,
        }
        for name, blocks in ways.items()
    }
    print(_table(model, found, config.steps))
    with atomic.folder(config.out, replace=config.overwrite) as new:
        for index in range(config.steps):
            meter.write({n: each[index] for n, each in way.items()}, new / f"{index:03d}")
        write_json(new / INDEX, {"first": config.first, "last": config.last, **found[LATENT]})
    note_result(
        config.model,
        "interpolate",
        {"first": config.first, "last": config.last, "decoded": config.decoded, "ways": found},
    )
    print(f"{config.out}: {config.steps} checkpoints from {config.first} to {config.last}")


def _predicted(model: SidewaysModel, blocks: Blocks) -> list[dict[str, float]]:
    """Metrics predicted of the weights themselves, read back by the encoder."""
    count = len(next(iter(blocks.values())))
    rows = [model.basis.read({n: each[i] for n, each in blocks.items()}) for i in range(count)]
    with torch.no_grad():
        z = model.vae.encode(torch.stack([r[0] for r in rows]), torch.stack([r[1] for r in rows]))
        mean = model.vae.predict(z)[0]
    return [dict(zip(model.metrics, row, strict=True)) for row in mean.tolist()]


def _measured(meter: Meter, blocks: Blocks, count: int) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    for index in range(count):
        found += meter.measure({name: each[index : index + 1] for name, each in blocks.items()})
    return found


def _table(model: SidewaysModel, found: dict[str, Any], steps: int) -> str:
    lines = []
    for way, values in found.items():
        heads = ", ".join(f"{m}: predicted, measured, difference" for m in model.metrics)
        lines.append(f"{way}: {heads}")
        for index in range(steps):
            cells = []
            for metric in model.metrics:
                guess = values["predicted"][index][metric]
                if values["measured"] is None:
                    cells.append(f"{guess:9.3f} {'-':>9} {'-':>9}")
                else:
                    real = values["measured"][index][metric]
                    cells.append(f"{guess:9.3f} {real:9.3f} {guess - real:+9.3f}")
            lines.append(f"  {index / (steps - 1):.2f}" + "  ".join(cells))
    return "\n".join(lines)
