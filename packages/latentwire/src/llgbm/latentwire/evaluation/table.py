"""An evaluation as aligned text."""

from __future__ import annotations

from llgbm.latentwire.evaluation.results import Evaluation

COLUMNS = ("em", "f1", "nll", "first_at_1", "first_at_5", "empty", "distinct", "repetition")
SECONDS = ("encode_seconds", "quantise_seconds", "prefill_seconds", "decode_seconds")


def table(evaluation: Evaluation) -> str:
    """Rows with their numbers, then F1 against text and token budget, then the scale."""
    columns = (*COLUMNS, "prompt_tokens", "slots", *SECONDS)
    heads = [column.removesuffix("_seconds") + " s" * (column in SECONDS) for column in columns]
    cells = [
        [name, *(_number(getattr(row, column), column) for column in columns)]
        for name, row in evaluation.rows.items()
    ]
    parts = [_aligned([["", *heads], *cells])]
    for name, differences in evaluation.differences.items():
        lines = [
            [row, f"{found.mean:+.3f}", f"[{found.low:+.3f}, {found.high:+.3f}]"]
            for row, found in differences.items()
        ]
        if lines:
            parts.append(_aligned([[f"F1 - {name}", "mean", "95%"], *lines]))
    return "\n\n".join([*parts, evaluation.scale])


def _number(value: float, column: str) -> str:
    return f"{value:.1f}" if column in ("prompt_tokens", "slots", *SECONDS) else f"{value:.3f}"


def _aligned(lines: list[list[str]]) -> str:
    """The first column to the left, others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
