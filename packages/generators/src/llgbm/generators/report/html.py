"""report.html: one file, nothing fetched."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined

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


def render(data: ReportData) -> str:
    """Render the report as HTML text."""
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
    template = files("llgbm.generators.report").joinpath("template.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(template).render(
        results=results,
        manifest=data.manifest,
        arms=arms_of(results),
        arm_words=ARM_WORDS,
        split_words=SPLIT_WORDS,
        accuracy_plot=accuracy_plot(results),
        delta_map=picture,
        silhouette=silhouette,
        alignment_plot=alignment_plot(results.alignment.points),
        teacher_losses=curves_plot(
            losses, "teachers, by task", "nats an answer token", log=True, groups=tasks
        ),
        training=curves_plot(training, "generators", "training loss", log=True),
        validation=curves_plot(validation, "unseen prompts of seen tasks", "delta cosine"),
        answers=data.answers,
    )


def write_report(data: ReportData, path: Path) -> None:
    """Write the report atomically."""
    write_text(path, render(data))
