"""How pictures of reports look: inline SVG with a transparent ground for light and dark pages."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure

# A grey that reads on white and on black; colours of like lightness.
INK = "#808080"
COLOURS = (
    "#4c8dd6",
    "#e0803c",
    "#4fa55b",
    "#c9545b",
    "#9a74c4",
    "#a5815a",
    "#d67fb8",
    "#8c9a3a",
    "#3fa7b5",
    "#7f7f7f",
)
# A legend of more tasks than colours goes on with the next of these.
MARKERS, LINES = ("o", "s", "^", "D", "v"), ("-", "--", ":", "-.")
STYLE = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "llgbm",
}
P = ParamSpec("P")
R = TypeVar("R")


def styled(plot: Callable[P, R]) -> Callable[P, R]:
    """Draw in the reports' style, and leave the caller's matplotlib settings alone."""

    @functools.wraps(plot)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> R:
        with mpl.rc_context(STYLE):
            return plot(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float, entries: int = 0) -> Figure:
    """A figure at least as high as a legend of `entries` lines."""
    return Figure(figsize=(width, max(height, 0.19 * entries + 0.3)), layout="constrained")


def svg_of(figure: Figure) -> str:
    """The figure as an SVG element that names no other page and no date."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
