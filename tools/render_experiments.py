"""Sections of docs/results.md for the result files of `llgbm experiment`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

METRICS = {
    "cosine": "delta cosine",
    "held_out_cosine": "cosine, held-out probes",
    "kl": "KL, held-out probes, nats",
    "accuracy": "accuracy",
    "condition_sensitivity": "over the wrong condition",
}


def ablation(name: str, results: Mapping[str, Any], where: str) -> list[str]:
    """Section of an ablation: one table a split."""
    lines = [f"## {name}", "", f"{results['question']} {results['scale']}. {where}", ""]
    variants = results["variants"]
    for split in next(iter(variants.values()))["metrics"]:
        metrics = list(variants[results["reference"]]["metrics"][split])
        head = " | ".join(METRICS[metric] for metric in metrics)
        lines += [f"| {split} | steps | on probes | on tasks | seconds | {head} |"]
        lines += ["|---|---|---|---|---|" + "---|" * len(metrics)]
        for variant, found in variants.items():
            cells = [
                _cell(found["metrics"][split][m], found["over_reference"].get(split, {}).get(m))
                for m in metrics
            ]
            lines.append(
                f"| {variant} | {found['steps']} | {found['steps_on_probes']:.0f} | "
                f"{found['steps_on_tasks']:.0f} | "
                f"{found['seconds']:.0f} | " + " | ".join(cells) + " |"
            )
        lines.append("")
    return [
        *lines,
        f"Brackets: difference from {results['reference']!r}, 95% interval, paired by seed, task "
        "and example or probe. Steps on probes and on tasks ran the base; seconds are of training "
        "steps. Examples are of the validation split, on prompts that no best step was chosen by.",
        "",
    ]


def composition(name: str, results: Mapping[str, Any], where: str) -> list[str]:
    """Section of the composition experiment: additivity, then interference."""
    lines = [f"## {name}", "", f"{results['scale']}. {where}", ""]
    for probes, pairs in results["additivity"].items():
        lines += [
            f"| cosine of the mixed teacher's delta, {probes} probes | with the sum | with the "
            "first | with the second | with the predicted sum |",
            "|---|---|---|---|---|",
        ]
        for pair, found in pairs.items():
            predicted = found["with_predicted"]
            lines.append(
                f"| {pair} | {found['with_sum']:.3f} | {found['with_first']:.3f} | "
                f"{found['with_second']:.3f} | {'' if predicted is None else f'{predicted:.3f}'} |"
            )
        lines.append("")
    lines += [
        "| interference | accuracy | over the average | of the gain kept |",
        "|---|---|---|---|",
    ]
    for arm, value in results["mean"].items():
        kept, over = results["retained"][arm], results["over_average"].get(arm)
        cells = [arm, _span(value, ""), "" if over is None else _span(over, "+")]
        lines.append(f"| {' | '.join(cells)} | {'' if kept is None else f'{kept:.0%}'} |")
    return [*lines, ""]


def parts(name: str, results: Mapping[str, Any], where: str) -> list[str]:
    """Wall clock of the parts of a preset."""
    seconds = results["seconds"]
    words = ", ".join(f"{part} {value:.0f} s" for part, value in seconds.items())
    return [f"{name}: {words}; {sum(seconds.values()) / 60:.0f} min in all.", ""]


RENDERERS: Mapping[str, Callable[[str, Mapping[str, Any], str], list[str]]] = {
    "ablation": ablation,
    "composition": composition,
    "parts": parts,
}


def _cell(value: Mapping[str, float], over: Mapping[str, float] | None) -> str:
    if over is None:
        return f"{value['mean']:.3f}"
    return f"{value['mean']:.3f} [{over['low']:+.3f}, {over['high']:+.3f}]"


def _span(value: Mapping[str, float], sign: str) -> str:
    return f"{value['mean']:{sign}.3f} [{value['low']:{sign}.2f}, {value['high']:{sign}.2f}]"
