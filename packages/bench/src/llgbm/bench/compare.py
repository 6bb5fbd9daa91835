"""`llgbm-bench compare`: two result files side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from llgbm.bench.result_files import read_results
from llgbm.deltas.errors import RunError, mismatch


@dataclass(frozen=True)
class CompareConfig:
    """Compare the medians of two result files of one suite and one config.

    Args:
        before: results JSON.
        after: results JSON.
    """

    before: Annotated[Path, tyro.conf.Positional]
    after: Annotated[Path, tyro.conf.Positional]


def compare(config: CompareConfig) -> dict[str, float]:
    """Print before, after and their ratio by rival (and case); return the ratios after / before.

    Raises:
        RunError: a file is malformed, or the two measured different things.
    """
    before, after = read_results(config.before), read_results(config.after)
    for key in ("suite", "config"):
        if before[key] != after[key]:
            raise RunError(mismatch(config.after, key, before[key], after[key]))
    ratios = {}
    first, second = _medians(before), _medians(after)
    width = max(map(len, first), default=0) + 2
    print(f"{'':<{width}}{'before ms':>12}{'after ms':>12}{'ratio':>8}")
    for name in first:
        if name in second:
            ratios[name] = second[name] / first[name]
            row = f"{first[name]:>12.3f}{second[name]:>12.3f}{ratios[name]:>8.2f}"
            print(f"{name:<{width}}{row}")
    return ratios


def _medians(results: dict[str, Any]) -> dict[str, float]:
    """Milliseconds by rival, and by case where there are cases."""
    if "rows" in results:
        return {name: row["median_ms"] for name, row in results["rows"].items()}
    if results["suite"] == "latentwire":
        return {
            f"batch={case['batch']} tokens={case['tokens']} {name}": row["median_ms"]
            for case in results["cases"]
            for name, row in case["rows"].items()
        }
    return {
        f"{case['shapes']} n={case['n']} rows={case['rows']} r={case['r']} {name}": row["median_ms"]
        for case in results["cases"]
        for name, row in case["rivals"].items()
        if "median_ms" in row
    }
