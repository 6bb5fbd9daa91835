"""report.html: one file, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from llgbm.deltas.atomic import write_text
from llgbm.generators.evaluation.arms import ARM_WORDS
from llgbm.generators.evaluation.table import SPLIT_WORDS, arms_of
from llgbm.generators.report.data import ReportData
from llgbm.generators.report.plots import (
    accuracy_plot,
    alignment_plot,
    curves_plot,
    delta_map,
)
from llgbm.generators.report.vae_plots import pictures_of
from llgbm.generators.vae.experiments.results import VAEResults

VAE_SPLITS = {
    "held_out": "Held-out teachers of seen tasks",
    "validation_family": "Teachers of families that nothing was trained on",
}


def render(data: ReportData | None, vaes: Sequence[VAEResults] = ()) -> str:
    """Render the report as HTML text.

    Args:
        data: of an evaluated run; left out where None.
        vaes: results of VAE experiments.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=PackageLoader(__package__, ".")
    )
    return environment.get_template("page.html.j2").render(
        **({"results": None} if data is None else _evaluation(data)),
        vaes=[{"results": found, "pictures": pictures_of(found)} for found in vaes],
        vae_splits=VAE_SPLITS,
    )


def _evaluation(data: ReportData) -> dict[str, Any]:
    """What the evaluation's part shows."""
    results = data.results
    picture, silhouette = delta_map(data.deltas, data.labels, data.held_out)
    losses = {entry.id: list(enumerate(entry.losses, 1)) for entry in data.manifest.adapters}
    tasks = {entry.id: entry.task for entry in data.manifest.adapters}
    training = {name: curves["loss"] for name, curves in data.curves.items() if "loss" in curves}
    validation = {
        name: curves["validation delta_cosine"]
        for name, curves in data.curves.items()
        if "validation delta_cosine" in curves
    }
    return {
        "results": results,
        "manifest": data.manifest,
        "arms": arms_of(results),
        "arm_words": ARM_WORDS,
        "split_words": SPLIT_WORDS,
        "accuracy_plot": accuracy_plot(results),
        "delta_map": picture,
        "silhouette": silhouette,
        "alignment_plot": alignment_plot(results.alignment.points),
        "teacher_losses": curves_plot(
            losses, "teachers, by task", "nats an answer token", log=True, groups=tasks
        ),
        "training": curves_plot(training, "generators", "training loss", log=True),
        "validation": curves_plot(validation, "unseen prompts of seen tasks", "delta cosine"),
        "answers": data.answers,
    }


def write_report(data: ReportData | None, path: Path, vaes: Sequence[VAEResults] = ()) -> None:
    """Write the report atomically; see `render`."""
    write_text(path, render(data, vaes))
