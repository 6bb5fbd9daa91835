"""Pictures of a run: curves by stage, and intervals by row."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from statistics import fmean

from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.plot_style import COLOURS, INK, LINES, new_figure, styled, svg_of
from llgbm.latentwire.report.data import Curve

# A curve has at most so many points a stage; longer ones are means of neighbours.
MOST_POINTS = 300


@styled
def curves_plot(
    curves: Mapping[str, Curve],
    stages: Mapping[str, int],
    label: str,
    log: bool = False,
    best: tuple[int, float] | None = None,
) -> str:
    """Quantities over steps, with a line where each stage begins.

    Args:
        curves: name -> points by stage.
        stages: stage -> its first step.
        label: the quantity with its unit.
        log: draw it on a logarithmic axis, if everything is above 0.
        best: step and value of the step that is kept.
    """
    figure = new_figure(8.4, 3.2, len(curves) + 1)
    panel = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        for place, points in enumerate(curve):
            steps, values = zip(*thinned(points, MOST_POINTS), strict=True)
            panel.plot(
                steps,
                values,
                color=COLOURS[number % len(COLOURS)],
                linestyle=LINES[number // len(COLOURS) % len(LINES)],
                # matplotlib keeps names that start with an underscore out of the legend.
                label="_" if place else plain(name),
                marker="o" if len(points) < 20 else "",
                markersize=4,
                linewidth=1.5,
            )
    if best is not None:
        panel.plot(*best, "D", color=INK, markerfacecolor="none", markersize=9, label="kept")
    every = [value for curve in curves.values() for points in curve for _, value in points]
    if log and every and all(isfinite(value) and value > 0 for value in every):
        panel.set_yscale("log")
    for stage, first in stages.items():
        panel.axvline(first, color=INK, linewidth=0.8, linestyle=":")
        where = panel.get_xaxis_transform()
        panel.text(first, 1.01, f" {plain(stage)}", transform=where, fontsize=8, color=INK)
    panel.set_xlabel("step")
    panel.set_ylabel(label)
    panel.grid(color=INK, alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


@styled
def intervals_plot(
    series: Mapping[str, Mapping[str, Interval]],
    label: str,
    marked: Collection[str] = (),
    zero: bool = False,
) -> str:
    """Means with 95% intervals, a line a name; several series stand below each other.

    Args:
        series: what is measured -> name -> interval.
        label: of the axis.
        marked: names in the second colour, where there is one series.
        zero: draw a line at 0, for differences.
    """
    names = list(dict.fromkeys(name for found in series.values() for name in found))
    many = len(series) > 1
    figure = new_figure(8.4, max(1.6, (0.12 + 0.18 * len(series)) * len(names) + 0.9), len(series))
    panel = figure.subplots()
    for number, (what, found) in enumerate(series.items()):
        shift = 0.22 * (number - (len(series) - 1) / 2)
        shown = plain(what)
        for name, interval in found.items():
            colour = COLOURS[number % len(COLOURS) if many else int(name in marked)]
            place = names.index(name) + shift
            ends = [interval.low, interval.high]
            panel.plot(ends, [place, place], color=colour, linewidth=2)
            panel.plot(interval.mean, place, "o", color=colour, markersize=6, label=shown)
            shown = "_"
    if zero:
        panel.axvline(0, color=INK, linewidth=0.8, linestyle="--")
    panel.set_yticks(range(len(names)), [plain(name) for name in names])
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlabel(label)
    panel.grid(axis="x", color=INK, alpha=0.25)
    if many:
        figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


def thinned(points: Sequence[tuple[int, float]], most: int) -> list[tuple[float, float]]:
    """At most so many points: means of neighbours where there are more."""
    size = -(-len(points) // most)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(s for s, _ in group), fmean(v for _, v in group)) for group in groups]


def plain(text: str) -> str:
    """A name that is drawn as it is, and not as mathematics."""
    return text.replace("$", r"\$")
