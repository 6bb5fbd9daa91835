"""`llgbm sideways report`: one page of what is known of a sideways model, nothing fetched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from jinja2 import Environment, PackageLoader, StrictUndefined

from llgbm.deltas.atomic import write_text
from llgbm.generators.sideways.explore.results import noted_results
from llgbm.generators.sideways.model.files import SidewaysModel, load_sideways
from llgbm.generators.sideways.predict import agreement_on_test_runs
from llgbm.generators.sideways.report.plots import (
    PARTS,
    front_plot,
    latent_map,
    trajectory_plot,
    way_plot,
)


@dataclass(frozen=True)
class SidewaysReportConfig:
    """Write a page with the latent map, predictions, and what other commands found last.

    Args:
        model: folder that `llgbm sideways train` made.
        out: page; MODEL/report.html where not given.
    """

    model: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None


def make_report(config: SidewaysReportConfig) -> Path:
    """Draw and write.

    Raises:
        RunError: no model, or damaged results.
    """
    model = load_sideways(config.model)
    path = config.out or config.model / "report.html"
    write_text(path, render(model, noted_results(config.model)))
    print(path)
    return path


def render(model: SidewaysModel, noted: dict[str, dict[str, Any]]) -> str:
    """The page as HTML text."""
    tables = {part: model.table(part) for part in PARTS}
    pareto, way = noted.get("pareto"), noted.get("interpolate")
    trajectory = noted.get("trajectory")
    pictures = {
        "latent_map": latent_map(
            {part: model.centres(table) for part, table in tables.items()},
            {part: table.metrics[:, 0] for part, table in tables.items()},
            model.metrics[0],
        ),
        "front": pareto
        and front_plot(
            [[each.metrics[n] for n in pareto["metrics"]] for each in model.collection.checkpoints],
            pareto["proposals"],
            pareto["metrics"],
        ),
        "way": way and way_plot(way["ways"], model.metrics),
        "trajectory_plot": trajectory and trajectory_plot(trajectory["points"], model.metrics),
    }
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=PackageLoader(__package__, ".")
    )
    return environment.get_template("page.html.j2").render(
        collection=model.collection.folder.name,
        checkpoints=len(model.collection.checkpoints),
        runs=len(model.collection.runs),
        split=model.split,
        blocks=len(model.basis.blocks),
        numbers=sum(block.numel for block in model.basis.blocks),
        metrics=model.metrics,
        agreement={
            row: {name: asdict(each) for name, each in found.items()}
            for row, found in agreement_on_test_runs(model).items()
        },
        pareto=pareto,
        init=noted.get("init"),
        interpolate=way,
        trajectory=trajectory,
        **pictures,
    )
