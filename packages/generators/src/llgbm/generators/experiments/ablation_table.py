"""An ablation as a table of text."""

from __future__ import annotations

from llgbm.deltas.bootstrap import Interval
from llgbm.generators.experiments.ablation_results import AblationResults

WORDS = {
    "cosine": "delta cosine",
    "held_out_cosine": "held-out probes",
    "kl": "KL, nats",
    "accuracy": "accuracy",
    "condition_sensitivity": "over wrong condition",
}


def ablation_table(results: AblationResults) -> str:
    """Rows of variants for every split; differences from the reference in brackets."""
    lines = [f"\n{results.name}: {results.question}"]
    splits = next(iter(results.variants.values())).metrics
    for split, metrics in splits.items():
        head = "".join(f"{WORDS[metric]:>28}" for metric in metrics)
        lines.append(f"\n{split:<26}{'steps':>7}{'probes':>7}{'tasks':>6}{'s':>7}{head}")
        for name, variant in results.variants.items():
            cells = ""
            for metric in metrics:
                value = variant.metrics[split][metric]
                over = variant.over_reference.get(split, {}).get(metric)
                cells += f"{_cell(value, over):>28}"
            lines.append(
                f"{name:<26}{variant.steps:>7}{variant.steps_on_probes:>7.0f}"
                f"{variant.steps_on_tasks:>6.0f}{variant.seconds:>7.1f}{cells}"
            )
    lines.append("probes, tasks: steps that ran the base on these")
    lines.append(f"brackets: difference from {results.reference!r}, 95% interval, paired")
    return "\n".join(lines)


def _cell(value: Interval, over: Interval | None) -> str:
    if over is None:
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} [{over.low:+.3f}, {over.high:+.3f}]"
