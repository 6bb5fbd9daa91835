"""`llgbm-bench report`: plots of result files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from llgbm.bench.latentwire import even_in_words
from llgbm.bench.result_files import SIZES, read_results
from llgbm.deltas.errors import RunError

# One colour a rival, in every plot; ours stand out.
COLOURS = {
    "ours_triton": "#0b6e4f",
    "ours_triton_fused": "#6bbf59",
    "ours_torch": "#0b6e4f",
    "batched": "#0b6e4f",
    "batched_graphed": "#0a4d8c",
    "batched_checkpointed": "#6bbf59",
    "base_alone": "#555555",
    "text": "#555555",
    "latents_cached": "#0b6e4f",
    "latents_online": "#6bbf59",
}
OTHER = "#c9a227"
BASE = "times the base alone (its input's gradient only); less is better"
# Of suites that have no base.
LABELS = {
    "latentwire": "times the text (prefill over its prefill, and so on); less is better",
    "sideways": "times reading all weights once; less is better",
}


@dataclass(frozen=True)
class ReportConfig:
    """Draw a plot of every result file in a folder.

    Args:
        results: folder of JSON files of llgbm-bench.
        out: folder of the plots (SVG).
    """

    results: Annotated[Path, tyro.conf.Positional]
    out: Path


def report(config: ReportConfig) -> list[Path]:
    """Draw what can be drawn and return the files.

    Raises:
        RunError: a file that is no result of llgbm-bench, or none at all.
    """
    files = sorted(config.results.glob("*.json"))
    if not files:
        raise RunError(f"{config.results}: results: expected JSON files of llgbm-bench, got none")
    config.out.mkdir(parents=True, exist_ok=True)
    written = []
    for file in files:
        results = read_results(file)
        target = config.out / f"{file.stem}.svg"
        label = LABELS.get(results["suite"], BASE)
        draw(bars_of(results), title_of(results), target, label)
        written.append(target)
        print(target)
    return written


def bars_of(results: dict[str, Any]) -> list[tuple[str, dict[str, float]]]:
    """Panels: a label, and times the base alone, or the text, of each rival."""
    if results["suite"] == "kernels":
        return [
            (
                f"{case['shapes']}, n {case['n']}, {case['rows']} rows, r {case['r']}",
                {
                    name: row["times_base"]
                    for name, row in case["rivals"].items()
                    if "times_base" in row
                },
            )
            for case in results["cases"]
        ]
    if results["suite"] == "latentwire":
        return [
            (
                f"batch {case['batch']}, {case['tokens']} tokens: "
                f"{even_in_words(case['break_even_reuses'])}",
                {"text": 1.0, **case["times_text"]},
            )
            for case in results["cases"]
        ]
    rows = results["rows"]
    sizes = ", ".join(f"{key} {results['config'][key]}" for key in SIZES[results["suite"]])
    if results["suite"] == "generate":
        alone = rows["one_by_one"]["adapters_per_s"]
        label = f"adapters/s over one by one, {sizes}"
        return [(label, {name: row["adapters_per_s"] / alone for name, row in rows.items()})]
    return [(sizes, {name: row["times_base"] for name, row in rows.items()})]


def title_of(results: dict[str, Any]) -> str:
    """What was measured where."""
    env = results["environment"]
    if results["suite"] == "latentwire":
        ratio = results["config"]["ratio"]
        return f"latents of {ratio:g} tokens a slot: {env['dtype']} on {env['device']}"
    if results["suite"] == "sideways":
        return f"sideways: {results['checkpoints']} checkpoints of {results['numbers']:,} numbers"
    return f"{results['suite']}: forward + backward, {env['dtype']} on {env['device']}"


def draw(
    panels: list[tuple[str, dict[str, float]]], title: str, path: Path, axis_label: str = BASE
) -> None:
    """Horizontal bars of times something else, one panel a case."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    heights = [0.3 * len(bars) + 0.8 for _, bars in panels]
    figure, axes = pyplot.subplots(
        len(panels),
        1,
        figsize=(7.5, sum(heights) + 0.6),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
    )
    for (label, bars), axis in zip(panels, axes[:, 0], strict=True):
        names = list(reversed(bars))
        values = [bars[name] for name in names]
        shown = axis.barh(names, values, color=[COLOURS.get(name, OTHER) for name in names])
        axis.bar_label(shown, labels=[f"{value:.2f}" for value in values], padding=3)
        axis.axvline(1.0, color="#555555", linewidth=0.8, linestyle="--")
        axis.set_title(label, fontsize=9, loc="left")
        axis.set_xlim(0, 1.15 * max(values))
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel(axis_label)
    figure.suptitle(title, fontsize=10)
    # No date, so that the same numbers give the same file.
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
