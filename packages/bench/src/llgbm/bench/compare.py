"""`llgbm-bench compare`: two result files side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json


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
    """Print before, after and their ratio by rival; return the ratios after / before.

    Raises:
        RunError: a file is malformed, or the two measured different things.
    """
    before, after = _read(config.before), _read(config.after)
    for key in ("suite", "config"):
        if before[key] != after[key]:
            raise RunError(mismatch(config.after, key, before[key], after[key]))
    ratios = {}
    print(f"{'':<22}{'before ms':>12}{'after ms':>12}{'ratio':>8}")
    for name in before["rows"].keys() & after["rows"].keys():
        first, second = (r["rows"][name]["median_ms"] for r in (before, after))
        ratios[name] = second / first
        print(f"{name:<22}{first:>12.1f}{second:>12.1f}{ratios[name]:>8.2f}")
    return ratios


def _read(path: Path) -> dict[str, Any]:
    content = read_json(path, RunError)
    missing = sorted({"suite", "config", "environment", "rows"} - set(content))
    if missing:
        raise RunError(mismatch(path, "keys", "a results file of llgbm-bench", f"no {missing}"))
    return content
