"""Sections of docs/results.md for the result files of `llgbm experiment`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "docs" / "results"
# Tables of more tasks than this give the mean alone.
MOST_TASKS = 6
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


def vae(name: str, results: Mapping[str, Any], where: str) -> list[str]:
    """Section of a VAE experiment: rows, what latents hold, ways between tasks, pictures."""
    lines = [f"## {name}", "", f"{results['question']} {results['scale']}. {where}", ""]
    for split, rows in results["rows"].items():
        tasks = list(next(iter(rows.values()))["accuracy_by_task"])
        shown = tasks if len(tasks) <= MOST_TASKS else []
        words = ["ΔW cosine", "delta cosine", "held-out probes", "accuracy", "- teacher"]
        head = [split.replace("_", " "), *words, "tasks above base", *shown]
        lines += ["| " + " | ".join(head) + " |", "|---|" + "---|" * (len(head) - 1)]
        for stand_in, row in rows.items():
            spans = ("update_cosine", "delta_cosine", "held_out_delta_cosine", "accuracy")
            cells = [stand_in, *(_span(row[key], "") for key in spans)]
            cells += [_span(row["over_teacher"], "+"), f"{row['tasks_above_base']} of {len(tasks)}"]
            cells += [f"{row['accuracy_by_task'][task]:.2f}" for task in shown]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    columns = {
        "numbers": "d", "parameters": ",d", "kl": ".1f", "mutual_information": ".2f",
        "active_units": ".0%", "codes_used": ".0%", "code_perplexity": ".1f",
        "code_task_information": ".2f", "silhouette": ".2f", "diversity": ".3f", "seconds": ".0f",
    }  # fmt: skip
    lines += ["| latent | " + " | ".join(key.replace("_", " ") for key in columns) + " |"]
    lines += ["|---|" + "---|" * len(columns)]
    for variant, found in results["latents"].items():
        cells = ["–" if found[k] is None else format(found[k], how) for k, how in columns.items()]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    lines.append("")
    if results["ways"]:
        lines += ["| way between tasks | midpoint | - straight | unevenness | detour |"]
        lines += ["|---|---|---|---|---|"]
        for kind, way in results["ways"].items():
            cells = [_span(way["midpoint"], ""), _span(way["over_straight"], "+")]
            cells += [f"{way['unevenness']:.2f}", f"{way['detour']:.2f}"]
            lines.append(f"| {kind} | " + " | ".join(cells) + " |")
        lines.append("")
    return [
        *lines,
        "A variant rebuilds held-out teachers; *written* is told the task's prompts alone. "
        "Brackets are 95% bootstrap intervals over teachers (of ways: over pairs). KL and mutual "
        "information in nats; unevenness is the longest step over the mean one, detour the length "
        "over the distance of the ends, both in deltas.",
        "",
        *_vae_pictures(name, results),
    ]


def _vae_pictures(name: str, results: Mapping[str, Any]) -> list[str]:
    """Draw the pictures of a VAE experiment, and refer to them."""
    from llgbm.generators.report.vae_plots import pictures_of
    from llgbm.generators.vae.experiments.results import VAEResults

    lines = []
    found = VAEResults.read(RESULTS / f"{name}.json")
    (RESULTS / "plots").mkdir(exist_ok=True)
    for picture in pictures_of(found):
        path = RESULTS / "plots" / f"{name}-{picture.name}.svg"
        path.write_text(picture.svg, encoding="utf-8")
        lines += [f"![{picture.words}](results/plots/{path.name})", "", picture.words, ""]
    return lines


RENDERERS: Mapping[str, Callable[[str, Mapping[str, Any], str], list[str]]] = {
    "vae": vae,
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
