"""Sections of docs/results.md for the result files of `llgbm-latentwire`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

SECONDS = ("encode_seconds", "quantise_seconds", "prefill_seconds", "decode_seconds")
RATES = ("first_at_1", "first_at_5", "empty", "distinct", "repetition")
RIVALS = ("text", "budget_question_kept")


def ablation(name: str, results: Mapping[str, Any], where: str) -> list[str]:
    """Section of one table of `experiment` or `ablate`: a line a variant."""
    runs = results["runs"]
    seeds = ", ".join(map(str, results["seeds"]))
    spent = results.get("seconds")
    scale = f"{results['scale']}; seeds {seeds}"
    scale += f"; {spent / 60:.0f} min of steps and answers" if spent else ""
    lines = [f"## {name}", "", f"{results['question']} {scale}. {where}"]
    rivals = [
        f"minus_{rival}{metric}"
        for metric in ("", "_nll")
        for rival in ("text", "budget_question_kept", "shuffled")
        if any(f"minus_{rival}{metric}" in found for found in runs.values())
    ]
    heads = ["", "F1", "EM", "NLL, nats a token", *(_minus(key) for key in rivals)]
    lines += ["", *_head(heads)]
    for variant, found in runs.items():
        cells = [
            f"{_span(found['f1'])}",
            f"{found['em']['mean']:.3f}",
            f"{found['nll']['mean']:.2f}",
        ]
        cells += [_span(found[key], sign=True) if key in found else "–" for key in rivals]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    references = {
        rival: next(found[rival] for found in runs.values() if rival in found)
        for rival in ("text", "budget_question_kept", "shuffled")
        if any(rival in found for found in runs.values())
    }
    said = "; ".join(f"{rival} {_span(found)}" for rival, found in references.items())
    first = next(iter(runs))
    return [
        *lines,
        "",
        f"F1 of the rivals beside {first!r}: {said}." if said else "",
        "",
        "Brackets: 95% bootstrap intervals over questions and seeds, differences paired.",
        "",
    ]


def timed(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tables of the bench suite `latentwire`: what a prompt costs as latents and as text."""
    lines = []
    for case in cases:
        reuses = case["break_even_reuses"]
        even = "never" if isinstance(reuses, str) else f"after {reuses:.1f} reuses"
        lines += [
            f"Batch {case['batch']}, {case['tokens']} tokens in {case['slots']} slots: even "
            f"{even}.",
            "",
            *_head(["", "ms (median)", "20% to 80%", "tokens/s", "peak MiB", "times the text"]),
        ]
        for name, row in case["rows"].items():
            times = case["times_text"].get(name)
            lines.append(
                f"| {name.replace('_', ' ')} | {row['median_ms']:.0f} | {row['low_ms']:.0f} to "
                f"{row['high_ms']:.0f} | {row['tokens_per_s']:.0f} | {row['peak_mib']:.1f} | "
                + ("–" if times is None else f"{times:.2f}")
                + " |"
            )
        lines.append("")
    return lines


def capacity(name: str, results: Mapping[str, Any], where: str) -> list[str]:
    """Section of the capacity oracle: a line a text."""
    lines = [f"## {name}", "", f"{results['question']} {results['scale']}. {where}", ""]
    lines += _head(["text", "recall at the start", "recall"])
    pairs = list(zip(results["start_recall"], results["recall"], strict=True))
    lines += [f"| {place} | {a:.3f} | {b:.3f} |" for place, (a, b) in enumerate(pairs, 1)]
    start, found = (sum(each) / len(pairs) for each in zip(*pairs, strict=True))
    return [*lines, f"| mean | {start:.3f} | {found:.3f} |", ""]


def evaluation(name: str, results: Mapping[str, Any], where: str) -> list[str]:
    """Section of one evaluation: every row, then seconds apart."""
    lines = [f"## {name}", "", f"{results['scale']}. {where}", ""]
    differences = {rival: results["differences"].get(rival, {}) for rival in RIVALS}
    against = [rival for rival, found in differences.items() if found]
    heads = ["", "F1", "EM", "NLL", "first token@1", "@5", "empty", "distinct", "repeats"]
    lines += _head([*heads, *(f"F1 - {_words(rival)}" for rival in against)])
    for row, found in results["rows"].items():
        cells = [
            _span(results["intervals"][row]["f1"]),
            f"{found['em']:.3f}",
            f"{found['nll']:.2f}",
            *(f"{found[key]:.2f}" for key in RATES),
        ]
        for rival in against:
            each = differences[rival].get(row)
            cells.append("–" if each is None else _span(each, sign=True))
        lines.append(f"| {_words(row)} | " + " | ".join(cells) + " |")
    lines += ["", *_head(["", "tokens and vectors read", "of these for the context",
                          *(f"{key.removesuffix('_seconds')}, s" for key in SECONDS)])]  # fmt: skip
    for row, found in results["rows"].items():
        cells = [f"{found['prompt_tokens']:.1f}", f"{found['slots']:.1f}"]
        cells += [f"{found[key]:.1f}" for key in SECONDS]
        lines.append(f"| {_words(row)} | " + " | ".join(cells) + " |")
    return [
        *lines,
        "",
        "Brackets: 95% bootstrap intervals over questions, differences paired. Seconds are of all "
        "questions together.",
        "",
    ]


def sizes(name: str, results: Mapping[str, Any], where: str) -> list[str]:
    """Section of `bytes`: a line a way to send the texts."""
    lines = [f"## {name}", "", f"{results['scale']}. {where}", ""]
    lines += _head(["", "bytes a text", "header", "payload", "scales", "UTF-8 bytes a byte"])
    for row, found in results["rows"].items():
        cells = [f"{found[key] / results['texts']:.1f}" for key in ("header", "payload", "scales")]
        total = found["total"]
        lines.append(
            f"| {row} | {total / results['texts']:.1f} | "
            + " | ".join(cells)
            + f" | {found['utf8'] / total:.3f} |"
        )
    return [*lines, ""]


def _head(cells: list[str]) -> list[str]:
    return ["| " + " | ".join(cells) + " |", "|" + "---|" * len(cells)]


def _span(found: Mapping[str, float], sign: bool = False) -> str:
    plus = "+" if sign else ""
    return f"{found['mean']:{plus}.3f} [{found['low']:{plus}.3f}, {found['high']:{plus}.3f}]"


def _minus(key: str) -> str:
    rival = key.removeprefix("minus_")
    metric = "NLL" if rival.endswith("_nll") else "F1"
    return f"{metric} - {_words(rival.removesuffix('_nll'))}"


def _words(row: str) -> str:
    return row.replace("_", " ")


RENDERERS: Mapping[str, Callable[[str, Mapping[str, Any], str], list[str]]] = {
    "latentwire ablation": ablation,
    "latentwire bytes": sizes,
    "latentwire capacity": capacity,
    "latentwire evaluation": evaluation,
}
