"""Render docs/results.md from the result files of experiments, benchmarks and compilations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import render_experiments
import render_latentwire
import render_sideways

from llgbm.generators.evaluation.arms.registry import ARM_WORDS
from llgbm.generators.evaluation.identifiability import WORDS

ROOT = Path(__file__).parent.parent
BENCHES = ROOT / "packages" / "bench" / "results"
# Labels of result files that a GPU wrote.
GPUS = ("h100", "h200", "b200", "a100")
RENDERERS = {
    **render_experiments.RENDERERS,
    **render_latentwire.RENDERERS,
    **render_sideways.RENDERERS,
}


def main_job(name: str, results: dict[str, Any]) -> list[str]:
    """Section of one results.json."""
    splits = list(results["accuracy"])
    lines = [f"## {name}", "", f"{results['scale']}. {_where(results)}", ""]
    lines += ["| accuracy | " + " | ".join(splits) + " |", "|---|" + "---|" * len(splits)]
    for arm in _arms(results["accuracy"]):
        cells = [_span(results["accuracy"][split].get(arm), 2) for split in splits]
        lines.append(f"| {ARM_WORDS[arm]} | " + " | ".join(cells) + " |")
    drawn = "examples within tasks"
    drawn += " and seeds" if "generator seeds" in results["scale"] else ""
    lines += ["", f"Brackets are 95% bootstrap intervals over {drawn}.", ""]
    lines += ["| metric | value |", "|---|---|"]
    for key, value in results["metrics"].items():
        lines.append(f"| {key} | {'–' if value is None else format(value, '+.3f')} |")
    for key, cosines in results["delta_cosine"].items():
        for generator, value in cosines.items():
            lines.append(f"| delta cosine, {key}, {generator} | {value:.4f} |")
    lines += ["", "Rows of delta cosines are on the conditions that best steps were chosen by.", ""]
    lines += _blocks(name, results)
    lines += _note(ROOT / "docs" / "results" / f"{name}.note.md")
    seconds = ", ".join(f"{k} {v:.0f} s" for k, v in results["seconds"].items())
    return [
        *lines,
        *([f"Wall clock by stage, up to the evaluation: {seconds}.", ""] if seconds else []),
    ]


def _blocks(name: str, results: dict[str, Any]) -> list[str]:
    """Tables of what an evaluation holds beside accuracies; older files hold none."""
    lines: list[str] = []
    for key, title, columns in (
        ("differences", "generated - arm, paired", None),
        ("behaviour", "held-out probes", {"cosine": "delta cosine", "kl": "KL, nats"}),
        ("nearest_teacher", "nearest-teacher ratio", {"delta_w": "ΔW", "delta": "deltas"}),
        ("parse_rate", "free answers", {"parsed": "is a choice", "correct": "right, of these"}),
    ):
        found = {split: arms for split, arms in results.get(key, {}).items() if arms}
        if not found:
            continue
        heads = [
            f"{split}{f', {words}' if words else ''}"
            for split in found
            for words in (columns or {"": ""}).values()
        ]
        lines += [f"| {title} | " + " | ".join(heads) + " |", "|---|" + "---|" * len(heads)]
        for arm in _arms(found):
            cells = []
            for arms in found.values():
                values = arms.get(arm)
                if columns is None:
                    cells.append(_span(values, 3))
                else:
                    cells += [_span((values or {}).get(column), 3) for column in columns]
            lines.append(f"| {ARM_WORDS[arm]} | " + " | ".join(cells) + " |")
        lines.append("")
    if results.get("clusters"):
        lines += ["| silhouette of the teachers | by task | by family |", "|---|---|---|"]
        for space, scores in results["clusters"].items():
            lines.append(f"| {space} | {_span(scores['task'], 3)} | {_span(scores['family'], 3)} |")
        lines.append("")
    alignment = results.get("alignment", {})
    if alignment.get("points"):
        from llgbm.generators.evaluation.alignment import Point
        from llgbm.generators.report.plots import alignment_plot

        plot = ROOT / "docs" / "results" / "plots" / f"{name}-alignment.svg"
        plot.parent.mkdir(exist_ok=True)
        points = [Point(**point) for point in alignment["points"]]
        plot.write_text(alignment_plot(points), encoding="utf-8")
        lines += [
            f"Delta cosine on held-out probes and accuracy gain over the base, {len(points)} "
            f"(adapter, task) pairs: Pearson {_span(alignment['pearson'], 2)}, Spearman "
            f"{_span(alignment['spearman'], 2)}, intervals over tasks.",
            "",
            f"![alignment and accuracy](results/plots/{plot.name})",
            "",
        ]
    return lines


def identifiability(name: str, results: dict[str, Any]) -> list[str]:
    """Section of one identifiability.json."""
    rivals = list(results["mean"])
    lines = [f"## {name}", "", f"{results['scale']}. {_where(results)}", ""]
    lines += ["| mean over teachers | " + " | ".join(rivals) + " |", "|---|" + "---|" * len(rivals)]
    for key, words in WORDS.items():
        cells = [f"{results['mean'][rival][key]:.4f}" for rival in rivals]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return [*lines, "", *_note(ROOT / "docs" / "results" / f"{name}.note.md")]


def _arms(by_split: dict[str, Any]) -> list[str]:
    """Arms that some split has, in table order."""
    return [arm for arm in ARM_WORDS if any(arm in arms for arms in by_split.values())]


def _span(found: Any, digits: int) -> str:
    """A number, or a mean with its interval."""
    if found is None:
        return "–"
    if not isinstance(found, dict):
        return f"{found:.{digits}f}"
    return f"{found['mean']:.3f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def experiment(name: str, content: dict[str, Any]) -> list[str]:
    """Section of any file in docs/results, by what it holds."""
    kind = content.get("kind")
    if kind in RENDERERS:
        where = _where(content) if "environment" in content else ""
        section = RENDERERS[kind](name, content, where)
        return section + _note(ROOT / "docs" / "results" / f"{name}.note.md")
    if "accuracy" in content:
        return main_job(name, content)
    return identifiability(name, content)


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
    if results["suite"] == "latentwire":
        lines += render_latentwire.timed(results["cases"])
        return lines + _note(BENCHES / f"{name}.note.md")
    if "cases" in results:
        return lines + _cases(results["cases"])
    if results["suite"] == "generate":
        return lines + _generated(results["rows"])
    if results["suite"] == "sideways":
        return lines + _collected(results) + _note(BENCHES / f"{name}.note.md")
    share = results["suite"] == "generator-step"
    lines += [
        "| | ms (median) | 20% to 80% | tokens/s | times the base alone | peak MiB |"
        + (" in the base |" if share else "")
    ]
    lines += ["|---|---|---|---|---|---|" + ("---|" if share else "")]
    for rival, row in results["rows"].items():
        lines.append(
            f"| {rival} | {row['median_ms']:.0f} | {row['low_ms']:.0f} to {row['high_ms']:.0f} "
            f"| {row['tokens_per_s']:.0f} | {row['times_base']:.2f} | {row['peak_mib']:.0f} |"
            + (f" {row['base_share']:.0%} |" if share else "")
        )
    return [*lines, "", *_note(BENCHES / f"{name}.note.md")]


def _generated(rows: dict[str, Any]) -> list[str]:
    """Table of the generate suite."""
    lines = ["| | ms (median) | adapters/s | peak MiB |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {row['median_ms']:.1f} | {row['adapters_per_s']:.1f} | {row['peak_mib']:.0f} |"
        for name, row in rows.items()
    ]
    return [*lines, ""]


def _collected(results: dict[str, Any]) -> list[str]:
    """Table of the sideways suite."""
    lines = ["| | s | times reading all weights once |", "|---|---|---|"]
    lines += [
        f"| {name} | {row['median_ms'] / 1e3:.1f} | {row['times_base']:.2f} |"
        for name, row in results["rows"].items()
    ]
    said = (
        f"{results['checkpoints']} checkpoints of {results['numbers']:,} numbers, "
        f"{results['weights_mib']:.0f} MiB of weights; largest size of the process "
        f"{results['process_mib']:.0f} MiB, torch included; R² {results['r2']:.3f} on unseen runs."
    )
    return [*lines, "", said, ""]


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
    dirty = "+" if env["commit"].endswith("+") else ""
    return (
        f"{env['device']}, {env['threads']} threads, {env['dtype']}, torch "
        f"{env['versions']['torch']}, commit {env['commit'][:12]}{dirty}, seed {env['seed']}."
    )


if __name__ == "__main__":
    text = ["# Results", "", "Rendered by `python tools/render_results.py`; do not edit.", ""]
    for path in sorted((ROOT / "docs" / "results").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        text += experiment(path.stem, content)
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
