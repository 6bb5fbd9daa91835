"""Pictures of latents: maps, ways from task to task, KL by number, codes by task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llgbm.deltas.plot_style import (
    COLOURS,
    INK,
    LINES,
    MARKERS,
    new_figure,
    styled,
    svg_of,
)
from llgbm.generators.vae.experiments.codes import table_of_codes
from llgbm.generators.vae.experiments.results import LatentMap, VAEResults
from llgbm.generators.vae.experiments.ways import SHARES, Way

# Codes drawn of a codebook, the most frequent ones.
MOST_CODES = 80


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: for files.
        svg: an element.
        words: what it shows.
    """

    name: str
    svg: str
    words: str


def pictures_of(results: VAEResults) -> list[Picture]:
    """Draw everything that an experiment's results hold."""
    first = next(iter(results.latents))
    found = [
        Picture(
            f"latents-{drawn.kind.lower()}",
            latent_map(drawn),
            f"{drawn.kind} of the latent centres of {first!r}: trained on (filled), held out "
            "(ringed), other families (hollow).",
        )
        for drawn in results.maps
    ]
    if results.ways:
        words = (
            "Ways between held-out teachers of two tasks, mean over pairs: mean of both tasks' "
            "accuracies, and delta cosines with the teacher left (falling) and reached (rising)."
        )
        found.append(Picture("ways", ways_plot(results.ways), words))
    rates = {name: latent.kl_by_unit for name, latent in results.latents.items()}
    if any(rates.values()):
        words = "Nats that each number of the latent costs, largest first."
        found.append(Picture("kl", kl_plot(rates), words))
    for name, latent in results.latents.items():
        if latent.codes_by_task:
            words = f"How often the teachers of a task have a code, {name!r}."
            picture = codes_plot(latent.codes_by_task)
            found.append(Picture(f"codes-{name.replace(' ', '-')}", picture, words))
        if latent.layers is not None:
            words = (
                f"What is lost when one layer's code is the mean code, {name!r}. Of what changes "
                f"when a layer's code is exchanged, {latent.layers.own_share:.0%} is in that layer."
            )
            curves = {
                "ΔW cosine": latent.layers.update_cosine_lost,
                "delta cosine": latent.layers.delta_cosine_lost,
            }
            found.append(Picture(f"layers-{name.replace(' ', '-')}", layers_plot(curves), words))
    return found


@styled
def latent_map(drawn: LatentMap) -> str:
    """Centres in two dimensions, a colour a task."""
    tasks = list(dict.fromkeys(drawn.tasks))
    figure = new_figure(6.4, 4.4, len(tasks))
    panel = figure.subplots()
    for number, task in enumerate(tasks):
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[number // len(COLOURS) % len(MARKERS)]
        label = task
        for split in dict.fromkeys(drawn.splits):
            places = [
                point
                for point, own, part in zip(drawn.points, drawn.tasks, drawn.splits, strict=True)
                if own == task and part == split
            ]
            if not places:
                continue
            x, y = zip(*places, strict=True)
            panel.scatter(
                x,
                y,
                s=90 if split == "held_out" else 45,
                marker=marker,
                facecolors="none" if split == "validation_family" else colour,
                edgecolors=INK if split == "held_out" else colour,
                linewidths=2,
                label=label,
            )
            label = "_"  # one entry a task
    panel.set(xticks=[], yticks=[], title=f"{drawn.kind} of latent centres")
    panel.title.set_color(INK)
    figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


@styled
def ways_plot(ways: Mapping[str, Way]) -> str:
    """Accuracy and delta cosines along the ways."""
    figure = new_figure(9.2, 3.6)
    left, right = figure.subplots(1, 2)
    for number, (name, way) in enumerate(ways.items()):
        colour, line = COLOURS[number], LINES[number % len(LINES)]
        left.plot(SHARES, way.accuracy, line, color=colour, marker="o", label=name)
        for curve in (way.start_cosine, way.end_cosine):
            right.plot(SHARES, curve, line, color=colour, marker="o", markersize=4)
    left.set_ylabel("accuracy, mean of both tasks")
    right.set_ylabel("delta cosine with an end's teacher")
    for panel in (left, right):
        panel.set_xlabel("share of the way")
        panel.grid(color=INK, alpha=0.25)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


@styled
def kl_plot(rates: Mapping[str, tuple[float, ...]]) -> str:
    """Nats by number of the latent, sorted, a line a variant."""
    figure = new_figure(6.4, 3.2, len(rates))
    panel = figure.subplots()
    for number, (name, values) in enumerate(rates.items()):
        if values:
            panel.plot(range(1, len(values) + 1), values, color=COLOURS[number % 10], label=name)
    panel.set(xlabel="number of the latent, largest first", ylabel="KL, nats", xscale="log")
    panel.grid(color=INK, alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)


@styled
def codes_plot(counted: Mapping[str, Mapping[str, int]]) -> str:
    """Counts of codes by task, as shares of a code's use."""
    codes, table = table_of_codes(counted, MOST_CODES)
    table = table / table.sum(0, keepdims=True)
    used = len({code for counts in counted.values() for code in counts})
    figure = new_figure(9.2, 0.3 * len(counted) + 1.6)
    panel = figure.subplots()
    image = panel.imshow(table, aspect="auto", cmap="viridis", vmin=0, vmax=1)
    panel.set_yticks(range(len(counted)), list(counted))
    panel.set_xlabel(f"the {len(codes)} most frequent of {used} codes, by the task that has most")
    panel.set_xticks([])
    bar = figure.colorbar(image, ax=panel, fraction=0.03)
    bar.set_label("share of its use")
    return svg_of(figure)


@styled
def layers_plot(curves: Mapping[str, tuple[float, ...]]) -> str:
    """What is lost layer by layer."""
    figure = new_figure(6.4, 3.2, len(curves))
    panel = figure.subplots()
    for number, (name, values) in enumerate(curves.items()):
        panel.plot(range(len(values)), values, color=COLOURS[number], marker="o", label=name)
    panel.set(xlabel="layer whose code is blanked", ylabel="cosine lost")
    panel.grid(color=INK, alpha=0.25)
    figure.legend(loc="outside right upper", frameon=False, labelcolor=INK, fontsize=8)
    return svg_of(figure)
