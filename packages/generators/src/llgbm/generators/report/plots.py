"""Pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics import silhouette_score

from llgbm.deltas.plot_style import (
    COLOURS,
    INK,
    LINES,
    MARKERS,
    new_figure,
    styled,
    svg_of,
)
from llgbm.generators.evaluation.alignment import Point
from llgbm.generators.evaluation.arms import ARM_WORDS, ARMS
from llgbm.generators.evaluation.results import Results
from llgbm.generators.evaluation.table import SPLIT_WORDS
from llgbm.generators.report.data import Curve


@styled
def accuracy_plot(results: Results) -> str:
    """Accuracy by arm with 95% intervals, one panel a split."""
    splits = list(results.accuracy)
    most = max(len(found) for found in results.accuracy.values())
    figure = new_figure(4.6 * len(splits) + 1.6, max(3.6, 0.3 * most + 0.9))
    panels = figure.subplots(1, len(splits), sharex=True, sharey=True, squeeze=False)[0]
    for panel, split in zip(panels, splits, strict=True):
        arms = [arm for arm in ARMS if arm in results.accuracy[split]]
        for place, arm in enumerate(arms):
            found = results.accuracy[split][arm]
            colour = COLOURS[1] if arm.startswith("generated") else COLOURS[0]
            panel.plot([found.low, found.high], [place, place], color=colour, linewidth=2)
            panel.plot(found.mean, place, "o", color=colour, markersize=7)
        panel.set_yticks(range(len(arms)), [ARM_WORDS[arm] for arm in arms])
        panel.set_title(SPLIT_WORDS[split], color=INK)
        panel.set_xlabel("accuracy, 95% interval")
        panel.grid(axis="x", color=INK, alpha=0.25)
    # The panels share their axis: inverting it once turns them all.
    panels[0].invert_yaxis()
    return svg_of(figure)


@styled
def delta_map(
    deltas: NDArray[np.float32], labels: Sequence[str], held_out: Sequence[bool]
) -> tuple[str, float | None]:
    """t-SNE of deltas by task, and the silhouette on clip(1 - cos, 0, 1).

    Args:
        deltas: [N, d].
        labels: task of each.
        held_out: drawn hollow.

    Returns:
        The picture, and the silhouette where it is defined.
    """
    unit = deltas / np.maximum(np.linalg.norm(deltas, axis=1, keepdims=True), 1e-12)
    distance = np.clip(1 - unit @ unit.T, 0, 1)
    np.fill_diagonal(distance, 0)
    score = None
    if 1 < len(set(labels)) < len(labels):
        score = float(silhouette_score(distance, labels, metric="precomputed"))
    if len(deltas) >= 5:
        places = TSNE(
            2,
            perplexity=min(5, (len(deltas) - 1) / 3),
            metric="precomputed",
            init="random",
            random_state=0,
        ).fit_transform(distance)
    else:
        # Too few points for neighbourhoods: the two main directions show them all.
        centred = unit - unit.mean(0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        places = np.zeros((len(deltas), 2))
        places[:, : min(2, len(s))] = (u * s)[:, :2]
    tasks = list(dict.fromkeys(labels))
    figure = new_figure(6.4, 4.4, len(tasks))
    panel = figure.subplots()
    for number, task in enumerate(tasks):
        rows = [index for index, label in enumerate(labels) if label == task]
        colour = COLOURS[number % len(COLOURS)]
        hollow = all(held_out[row] for row in rows)
        panel.scatter(
            places[rows, 0],
            places[rows, 1],
            s=70,
            marker=MARKERS[number // len(COLOURS) % len(MARKERS)],
            edgecolors=colour,
            facecolors="none" if hollow else colour,
            linewidths=2,
            label=task + (" (held out)" if hollow else ""),
        )
    panel.set_xticks([])
    panel.set_yticks([])
    figure.legend(loc="outside right upper", frameon=False, labelcolor=INK)
    return svg_of(figure), score


@styled
def curves_plot(
    curves: Mapping[str, Curve],
    title: str,
    label: str,
    log: bool = False,
    groups: Mapping[str, str] | None = None,
) -> str:
    """Curves of one quantity, by name.

    Args:
        curves: name -> points.
        title: of the panel.
        label: the quantity with its unit.
        log: draw it on a logarithmic axis.
        groups: name -> what the legend calls it; curves of one group look alike and share an
            entry. Each name is its own where None.
    """
    names = {name: groups[name] if groups else name for name in curves}
    places = {group: number for number, group in enumerate(dict.fromkeys(names.values()))}
    figure = new_figure(6.4, 3.2, len(places))
    panel = figure.subplots()
    named: set[str] = set()
    for name, points in curves.items():
        group = names[name]
        number = places[group]
        steps, values = zip(*points, strict=True) if points else ((), ())
        panel.plot(
            steps,
            values,
            color=COLOURS[number % len(COLOURS)],
            linestyle=LINES[number // len(COLOURS) % len(LINES)],
            # matplotlib keeps names that start with an underscore out of the legend.
            label="_" if group in named else group,
            marker="o" if len(points) < 20 else "",
            markersize=4,
            linewidth=1.5,
        )
        named.add(group)
    if log:
        panel.set_yscale("log")
    panel.set_title(title, color=INK)
    panel.set_xlabel("step")
    panel.set_ylabel(label)
    panel.grid(color=INK, alpha=0.25)
    if curves:
        figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


@styled
def alignment_plot(points: Sequence[Point]) -> str:
    """Accuracy gain over delta cosine, one mark an adapter on a task, coloured by arm."""
    arms = [arm for arm in ARMS if any(point.arm == arm for point in points)]
    figure = new_figure(6.4, 3.6, len(arms))
    panel = figure.subplots()
    for number, arm in enumerate(arms):
        found = [point for point in points if point.arm == arm]
        panel.scatter(
            [point.cosine for point in found],
            [point.gain for point in found],
            s=26,
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number // len(COLOURS) % len(MARKERS)],
            label=ARM_WORDS[arm],
        )
    panel.set_xlabel("delta cosine with the task's teachers, held-out probes")
    panel.set_ylabel("accuracy - base")
    panel.grid(color=INK, alpha=0.25)
    if arms:
        figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)
