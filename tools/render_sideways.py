"""Section of docs/results.md for the result file of `llgbm experiment sideways`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

PLOTS = Path(__file__).parent.parent / "docs" / "results" / "plots"


def sideways(name: str, results: Mapping[str, Any], where: str) -> list[str]:
    """Predictions, fronts, gaps, starts, trajectories and pictures."""
    seeds, metrics = results["seeds"], results["metrics"]
    lines = [f"## {name}", "", f"{results['scale']}; seeds {', '.join(seeds)}. {where}", ""]
    bent = results["schema"] > 1
    words = ("R²", *(["R², bent"] if bent else []), "rank", "error")
    heads = [f"{metric}: {word}" for metric in metrics for word in words]
    lines += ["Metrics of unseen runs, from weights:", "", *_head("predicted by", heads)]
    for who in _first(seeds)["agreement"]:
        cells = []
        for metric in metrics:
            found = [seed["agreement"][who][metric] for seed in seeds.values()]
            ranks = [each["rank_correlation"] for each in found]
            cells.append(f"{fmean(each['r2'] for each in found):.3f}")
            if bent:
                cells.append(f"{fmean(each['r2_bent'] for each in found):.3f}")
            cells.append("–" if None in ranks else f"{fmean(ranks):.3f}")
            cells.append(f"{fmean(each['error'] for each in found):.3f}")
        lines.append(f"| {who} | " + " | ".join(cells) + " |")
    lines += ["", "Hypervolume of what each names, measured on test examples:", ""]
    lines += _volumes(results)
    lines += [
        "",
        "All candidates, predicted minus measured on the examples that metrics are of:",
        "",
    ]
    lines += _head("metric", ["mean", "mean absolute", "of so many"])
    for metric in _first(seeds)["gaps"][0]["measured"]:
        gaps = [
            gap["predicted"][metric] - gap["measured"][metric]
            for seed in seeds.values()
            for gap in seed["gaps"]
        ]
        size = fmean(abs(gap) for gap in gaps)
        lines.append(f"| {metric} | {fmean(gaps):+.4f} | {size:.4f} | {len(gaps)} |")
    lines += [
        "",
        "Steps to the target on those examples from each start (– : not within all steps):",
        "",
    ]
    lines += _head("start", [f"seed {seed}: {_target(found)}" for seed, found in seeds.items()])
    for start in _first(seeds)["starts"]:
        steps = [seed["starts"][start]["steps"] for seed in seeds.values()]
        cells = ["–" if each is None else str(each) for each in steps]
        lines.append(f"| {start} | " + " | ".join(cells) + " |")
    lines += ["", "Error of metrics at the end of unseen runs, from their first checkpoint:", ""]
    lines += _head("predicted by", list(metrics))
    for who in _first(seeds)["ends"]:
        cells = [
            f"{fmean(seed['ends'][who][metric] for seed in seeds.values()):.4f}"
            for metric in metrics
        ]
        lines.append(f"| {who} | " + " | ".join(cells) + " |")
    parts = ", ".join(f"{part} {value:.0f} s" for part, value in results["seconds"].items())
    return [*lines, "", *_pictures(name, results), f"Wall clock: {parts}.", ""]


def _pictures(name: str, results: Mapping[str, Any]) -> list[str]:
    """Draw the fronts and the ways; return their lines."""
    from llgbm.generators.sideways.report.plots import arms_plot, trajectory_plot, way_plot

    metrics = list(next(iter(results["reference"].values())))
    lines = []
    for seed, found in results["seeds"].items():
        path = PLOTS / f"{name}-front-{seed}.svg"
        measured = {arm: each["measured"] for arm, each in found["fronts"].items()}
        path.write_text(arms_plot(measured, metrics), encoding="utf-8")
        lines += [
            f"![What each arm names, seed {seed}, on test examples.](results/plots/{path.name})"
        ]
    path = PLOTS / f"{name}-ways.svg"
    ways = _first(results["seeds"])["path"]
    drawn = {way: {"measured": points} for way, points in ways.items()}
    path.write_text(way_plot(drawn, metrics, kinds=("measured",)), encoding="utf-8")
    words = "Ways between the test checkpoints that gain and that keep most, on test examples."
    lines += ["", f"![{words}](results/plots/{path.name})", ""]
    seed = _first(results["seeds"])
    # Files of schema 1 have neither.
    if results["schema"] == 1:
        return lines
    for run, points in seed["trajectories"].items():
        path = PLOTS / f"{name}-{run}.svg"
        path.write_text(trajectory_plot(points, results["metrics"]), encoding="utf-8")
        lines += [f"![{run}, unseen, from its first checkpoint.](results/plots/{path.name})"]
    path = PLOTS / f"{name}-latents.svg"
    path.write_text(_map_of(seed["latents"], metrics[0]), encoding="utf-8")
    return [*lines, "", f"![Latents of checkpoints.](results/plots/{path.name})", ""]


def _map_of(points: Sequence[Mapping[str, Any]], metric: str) -> str:
    """Map of latents, coloured by a metric."""
    from torch import tensor

    from llgbm.generators.sideways.report.plots import latent_map

    parts: dict[str, list[Mapping[str, Any]]] = {}
    for each in points:
        parts.setdefault(each["part"], []).append(each)
    return latent_map(
        {part: tensor([[p["x"], p["y"]] for p in each]) for part, each in parts.items()},
        {part: tensor([p["metrics"][metric] for p in each]) for part, each in parts.items()},
        metric,
    )


def _volumes(results: Mapping[str, Any]) -> list[str]:
    """Table of hypervolumes; with intervals over examples where they were measured."""
    seeds, volumes = results["seeds"], results.get("volumes")
    rivals = _rivals(volumes) if volumes else []
    lines = _head("arm", ["mean", *(f"seed {seed}" for seed in seeds), *(f"- {r}" for r in rivals)])
    for arm in _first(seeds)["fronts"]:
        found = [seed["fronts"][arm]["hypervolume"] for seed in seeds.values()]
        cells = [f"{fmean(found):.4f}", *(f"{each:.4f}" for each in found)]
        cells += [_span(volumes["mean"][arm]["over"].get(rival)) for rival in rivals]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    if rivals:
        lines += ["", "Differences are of the means, with 95% intervals over examples and texts."]
    return lines


def _rivals(volumes: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(r for arm in volumes["mean"].values() for r in arm["over"]))


def _span(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "–"
    return f"{found['mean']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]"


def _target(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{metric} {value:.3f}" for metric, value in found["target"].items())


def _first(seeds: Mapping[str, Any]) -> Any:
    return next(iter(seeds.values()))


def _head(first: str, heads: list[str]) -> list[str]:
    return ["| " + " | ".join([first, *heads]) + " |", "|---|" + "---|" * len(heads)]


RENDERERS: dict[str, Callable[[str, Mapping[str, Any], str], list[str]]] = {
    "sideways experiment": sideways,
}
