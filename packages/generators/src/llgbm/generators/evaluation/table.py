"""The table of arms as plain text."""

from __future__ import annotations

from llgbm.generators.evaluation.arms import ARMS
from llgbm.generators.evaluation.results import SPLITS, Results

ARM_WORDS = {
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
SPLIT_WORDS = {"seen": "seen families", "held_out_family": "held-out family"}


def arms_table(results: Results) -> str:
    """Accuracy by arm and split with 95% intervals."""
    splits = [split for split in SPLITS if split in results.accuracy]
    width = max(map(len, ARM_WORDS.values()))
    header = "  ".join(f"{SPLIT_WORDS[split]:>20}" for split in splits)
    lines = [f"{'accuracy':<{width}}  {header}"]
    for arm in ARMS:
        cells = []
        for split in splits:
            found = results.accuracy[split].get(arm)
            text = f"{found.mean:.3f} [{found.low:.2f}, {found.high:.2f}]" if found else "-"
            cells.append(f"{text:>20}")
        lines.append(f"{ARM_WORDS[arm]:<{width}}  {'  '.join(cells)}")
    return "\n".join(lines)
