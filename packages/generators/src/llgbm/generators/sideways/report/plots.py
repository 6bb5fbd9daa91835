"""Pictures of a sideways model: latent map, front, way, trajectory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from sklearn.decomposition import PCA
from torch import Tensor

from llgbm.deltas.plot_style import COLOURS, INK, LINES, MARKERS, new_figure, styled, svg_of

# Split -> marker, and whether it is filled.
PARTS = {"train": ("o", True), "validation": ("s", False), "test": ("D", False)}


@styled
def latent_map(centres: Mapping[str, Tensor], values: Mapping[str, Tensor], metric: str) -> str:
    """Latents in two dimensions (PCA of the training ones), coloured by a metric.

    Args:
        centres: by part, [n, z].
        values: by part, [n], the metric as measured.
        metric: its name.
    """
    size = min(2, centres["train"].shape[1])
    fitted = PCA(size).fit(centres["train"].numpy())
    low = min(float(each.min()) for each in values.values())
    high = max(float(each.max()) for each in values.values())
    figure = new_figure(6.4, 4.4)
    panel = figure.subplots()
    for part, (marker, filled) in PARTS.items():
        points = fitted.transform(centres[part].numpy())
        up = points[:, 1] if size > 1 else 0 * points[:, 0]
        panel.scatter(
            points[:, 0], up, c=values[part].numpy(), vmin=low, vmax=high, cmap="viridis",
            marker=marker, s=28 if filled else 52, edgecolors="none" if filled else INK,
            label=f"{part} runs",
        )  # fmt: skip
    panel.set(xticks=[], yticks=[], title="latents of checkpoints (PCA)")
    panel.title.set_color(INK)
    figure.colorbar(panel.collections[0], ax=panel, label=metric)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


@styled
def front_plot(
    checkpoints: Sequence[Sequence[float]], proposals: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> str:  # fmt: skip
    """First two metrics of a front: checkpoints, predictions, and what was measured of them."""
    figure = new_figure(6.4, 4.4)
    panel = figure.subplots()
    panel.scatter(*_two(checkpoints), s=14, color=INK, alpha=0.5, label="checkpoints")
    predicted = [[each["predicted"][name] for name in names] for each in proposals]
    panel.scatter(
        *_two(predicted), s=46, facecolors="none", edgecolors=COLOURS[0], label="predicted"
    )
    pairs = [
        (guess, [each["measured"][name] for name in names])
        for guess, each in zip(predicted, proposals, strict=True)
        if each["measured"] is not None
    ]
    for guess, real in pairs:
        panel.plot([guess[0], real[0]], [guess[1], real[1]], color=COLOURS[0], linewidth=0.8)
    if pairs:
        panel.scatter(*_two([real for _, real in pairs]), s=46, color=COLOURS[1], label="measured")
    _named(panel, *names[:2])
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


@styled
def arms_plot(arms: Mapping[str, Sequence[Mapping[str, float]]], names: Sequence[str]) -> str:
    """First two metrics of what every arm names, as measured."""
    figure = new_figure(7.2, 4.4, len(arms))
    panel = figure.subplots()
    for number, (arm, points) in enumerate(arms.items()):
        panel.scatter(
            *_two([[each[name] for name in names] for each in points]),
            s=40,
            marker=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            alpha=0.8,
            label=arm,
        )
    _named(panel, *names[:2])
    figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


@styled
def way_plot(
    ways: Mapping[str, Mapping[str, Any]],
    metrics: Sequence[str],
    kinds: Sequence[str] = ("measured", "predicted"),
) -> str:
    """Each metric along the ways: the first kind as lines, the second dashed."""
    figure = new_figure(4.2 * len(metrics), 3.6)
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for place, (panel, metric) in enumerate(zip(panels, metrics, strict=True)):
        for number, (name, way) in enumerate(ways.items()):
            count = len(way[kinds[-1]])
            shares = [index / (count - 1) for index in range(count)]
            for kind, line in zip(kinds, LINES, strict=False):
                if way[kind] is None:
                    continue
                curve = [each[metric] for each in way[kind]]
                label = f"{name}, {kind}" if place == 0 else None
                panel.plot(shares, curve, line, color=COLOURS[number], marker="o", markersize=4,
                           label=label)  # fmt: skip
        _named(panel, "share of the way", metric)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


@styled
def trajectory_plot(points: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> str:
    """Each metric along a training: predicted with its standard error, measured where known."""
    figure = new_figure(4.2 * len(metrics), 3.6)
    steps = [each["step"] for each in points]
    for place, (panel, metric) in enumerate(
        zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True)
    ):
        mean = [each["predicted"][metric] for each in points]
        error = [each["error"][metric] for each in points]
        low = [m - e for m, e in zip(mean, error, strict=True)]
        high = [m + e for m, e in zip(mean, error, strict=True)]
        panel.fill_between(steps, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
        label = {"label": "predicted"} if place == 0 else {}
        panel.plot(steps, mean, color=COLOURS[0], marker="o", markersize=4, **label)
        real = [(e["step"], e["measured"][metric]) for e in points if e["measured"] is not None]
        if real:
            label = {"label": "measured"} if place == 0 else {}
            panel.plot(*zip(*real, strict=True), color=COLOURS[1], marker="s", markersize=4,
                       **label)  # fmt: skip
        _named(panel, "step", metric)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


def _two(points: Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    return [each[0] for each in points], [each[1] for each in points]


def _named(panel: Axes, x: str, y: str) -> None:
    panel.set(xlabel=x, ylabel=y)
    panel.grid(color=INK, alpha=0.25)
