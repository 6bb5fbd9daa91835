"""The table of arms as plain text."""

from __future__ import annotations

from llgbm.generators.evaluation.arms import ARM_WORDS, ARMS
from llgbm.generators.evaluation.results import SPLITS, Results

SPLIT_WORDS = {
    "seen": "seen families",
    "validation_family": "validation families",
    "held_out_family": "held-out families",
}


def arms_table(results: Results) -> str:
    """Accuracy by arm and split with 95% intervals."""
    splits = [split for split in SPLITS if split in results.accuracy]
    width = max(map(len, ARM_WORDS.values()))
    header = "  ".join(f"{SPLIT_WORDS[split]:>20}" for split in splits)
    lines = [f"{'accuracy':<{width}}  {header}"]
    for arm in arms_of(results):
        cells = []
        for split in splits:
            found = results.accuracy[split].get(arm)
            text = f"{found.mean:.3f} [{found.low:.2f}, {found.high:.2f}]" if found else "-"
            cells.append(f"{text:>20}")
        lines.append(f"{ARM_WORDS[arm]:<{width}}  {'  '.join(cells)}")
    return "\n".join(lines)


def arms_of(results: Results) -> list[str]:
    """The arms that some split has, in table order."""
    return [arm for arm in ARMS if any(arm in found for found in results.accuracy.values())]
