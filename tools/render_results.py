"""Render docs/results.md from the result files in docs/results/ and packages/bench/results/."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ARMS = {
    "base": "base model",
    "random": "random LoRA, norms matched",
    "mean_adapter": "mean of the teachers",
    "nearest_text": "nearest teacher by text",
    "nearest_delta": "nearest teacher by delta",
    "generated": "generated from prompts",
    "generated_description": "generated from a sentence",
    "generated_shuffled": "generated, wrong condition",
    "teacher": "teacher (oracle)",
}


def main_job(name: str, results: dict[str, Any]) -> list[str]:
    """Section of one results.json."""
    splits = list(results["accuracy"])
    lines = [f"## {name}", "", f"{results['scale']}. {_where(results)}", ""]
    lines += ["| accuracy | " + " | ".join(splits) + " |", "|---|" + "---|" * len(splits)]
    for arm, words in ARMS.items():
        cells = []
        for split in splits:
            found = results["accuracy"][split].get(arm)
            cells.append(
                "–"
                if not found
                else f"{found['mean']:.3f} [{found['low']:.2f}, {found['high']:.2f}]"
            )
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    lines += ["", "Brackets are 95% bootstrap intervals over examples within tasks.", ""]
    lines += ["| metric | value |", "|---|---|"]
    for key, value in results["metrics"].items():
        lines.append(f"| {key} | {'–' if value is None else format(value, '+.3f')} |")
    for key, cosines in results["delta_cosine"].items():
        for generator, value in cosines.items():
            lines.append(f"| delta cosine, {key}, {generator} | {value:.4f} |")
    note = ROOT / "docs" / "results" / f"{name}.note.md"
    if note.exists():
        lines += ["", note.read_text(encoding="utf-8").strip()]
    seconds = ", ".join(f"{k} {v:.0f} s" for k, v in results["seconds"].items())
    return [*lines, "", f"Wall clock: {seconds}.", ""]


def benchmark(name: str, results: dict[str, Any]) -> list[str]:
    """Section of one benchmark."""
    config = ", ".join(f"{k} {v}" for k, v in results["config"].items())
    lines = [f"## {name}", "", f"{results['suite']}: {config}. {_where(results)}", ""]
    lines += ["| rival | ms (median) | 20% to 80% | tokens/s | times the base alone |"]
    lines += ["|---|---|---|---|---|"]
    for rival, row in results["rows"].items():
        lines.append(
            f"| {rival} | {row['median_ms']:.0f} | {row['low_ms']:.0f} to {row['high_ms']:.0f} "
            f"| {row['tokens_per_s']:.0f} | {row['times_base']:.2f} |"
        )
    return [*lines, ""]


def _where(results: dict[str, Any]) -> str:
    env = results["environment"]
    return (
        f"{env['device']}, {env['threads']} threads, {env['dtype']}, torch "
        f"{env['versions']['torch']}, commit {env['commit'][:12]}, seed {env['seed']}."
    )


if __name__ == "__main__":
    text = ["# Results", "", "Rendered by `python tools/render_results.py`; do not edit.", ""]
    for path in sorted((ROOT / "docs" / "results").glob("*.json")):
        text += main_job(path.stem, json.loads(path.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "packages" / "bench" / "results").glob("*.json")):
        text += benchmark(path.stem, json.loads(path.read_text(encoding="utf-8")))
    (ROOT / "docs" / "results.md").write_text("\n".join(text), encoding="utf-8")
