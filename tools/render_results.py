"""Render docs/results.md from the result files of experiments, benchmarks and compilations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BENCHES = ROOT / "packages" / "bench" / "results"
# Labels of result files that a GPU wrote.
GPUS = ("h100", "h200", "b200", "a100")
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
    lines += ["", *_note(ROOT / "docs" / "results" / f"{name}.note.md")]
    seconds = ", ".join(f"{k} {v:.0f} s" for k, v in results["seconds"].items())
    return [*lines, f"Wall clock: {seconds}.", ""]


def benchmark(name: str, results: dict[str, Any]) -> list[str]:
    """Section of one benchmark."""
    config = ", ".join(f"{k} {v}" for k, v in results["config"].items())
    lines = [f"## {name}", "", f"{results['suite']}: {config}. {_where(results)}", ""]
    if "roofline" in results:
        limits = results["roofline"]
        lines += [
            f"Measured limits: copy {limits['copy_gb_per_s']:.0f} GB/s, products "
            f"{limits['matmul_tflop_per_s']:.2f} TFLOP/s.",
            "",
        ]
    plot = f"plots/{name}.svg"
    if (BENCHES / plot).exists():
        lines += [f"![{name}](../packages/bench/results/{plot})", ""]
    if "cases" in results:
        return lines + _cases(results["cases"])
    lines += ["| | ms (median) | 20% to 80% | tokens/s | times the base alone | peak MiB |"]
    lines += ["|---|---|---|---|---|---|"]
    for rival, row in results["rows"].items():
        lines.append(
            f"| {rival} | {row['median_ms']:.0f} | {row['low_ms']:.0f} to {row['high_ms']:.0f} "
            f"| {row['tokens_per_s']:.0f} | {row['times_base']:.2f} | {row['peak_mib']:.0f} |"
        )
    return [*lines, "", *_note(BENCHES / f"{name}.note.md")]


def _note(path: Path) -> list[str]:
    """What a reader must know beside the numbers, where there is something."""
    return [path.read_text(encoding="utf-8").strip(), ""] if path.exists() else []


def _cases(cases: list[dict[str, Any]]) -> list[str]:
    """One table of all cases of the kernels suite."""
    lines = [
        "| layer | rival | forward ms | forward + backward ms | times the base | share of the "
        "roofline | peak MiB | error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        layer = f"{case['shapes']}, n {case['n']}, {case['rows']} rows, r {case['r']}"
        for rival, row in case["rivals"].items():
            error = "" if row["error"] is None else f"{row['error']:.1e}"
            both = " | | | "
            if "median_ms" in row:
                both = (
                    f"{row['median_ms']:.3f} | {row['times_base']:.2f} | "
                    f"{row['roofline_share']:.2f} | {row['peak_mib']:.1f}"
                )
            lines.append(f"| {layer} | {rival} | {row['forward_ms']:.3f} | {both} | {error} |")
    return [*lines, ""]


def compiled(results: dict[str, Any]) -> list[str]:
    """Section of the compile-only table."""
    lines = [
        "## Kernels, compiled",
        "",
        f"Every configuration that the tile rules dispatch, compiled by Triton {results['triton']} "
        "without a GPU (`python -m llgbm.lora_kernels.compile_report`); the worst figure of each "
        "group.",
        "",
        "| target | kernel | dtype | configurations | registers | spilled bytes | shared KiB "
        "(limit) | matrix instructions |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        names = ", ".join(name or "none" for name in row["matrix_instructions"])
        lines.append(
            f"| {row['target']} | {row['kernel']} | {row['dtype']} | {row['configurations']} | "
            f"{row['registers']} | {row['spill_bytes']} | {row['shared_kib']:.0f} "
            f"({row['shared_limit_kib']:.0f}) | {names} |"
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
    files = sorted(BENCHES.glob("*.json"))
    for path in files:
        text += benchmark(path.stem, json.loads(path.read_text(encoding="utf-8")))
    if not any(path.stem.startswith(GPUS) for path in files):
        text += [
            "## GPU",
            "",
            "Not measured: no GPU has run these benchmarks yet. `llgbm-bench all --out "
            "packages/bench/results --label h200` checks, times and writes everything in at most "
            "ten minutes on an H100 or H200.",
            "",
        ]
    path = ROOT / "packages" / "lora_kernels" / "results" / "compile.json"
    text += compiled(json.loads(path.read_text(encoding="utf-8")))
    (ROOT / "docs" / "results.md").write_text("\n".join(text), encoding="utf-8")
