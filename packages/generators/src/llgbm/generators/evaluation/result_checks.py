"""Checks of results.json: each names the file, the key, what was expected and what was found."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError, mismatch
from llgbm.generators.evaluation.arms.registry import ARMS

# Sums of float32 numbers may pass a bound by so much.
ROUNDING = 1e-6


def read_object(path: Path, where: str, value: Any) -> dict[str, Any]:
    """Return `value`, which must be an object."""
    if not isinstance(value, dict):
        raise RunError(mismatch(path, where, "an object", type(value).__name__))
    return value


def is_number(value: Any) -> bool:
    """Whether `value` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def check_number(
    path: Path, where: str, value: Any, least: float = -math.inf, most: float = math.inf
) -> None:
    """Refuse what is not a finite number between two bounds."""
    if not is_number(value):
        raise RunError(mismatch(path, where, "a finite number", repr(value)))
    if not least <= value <= most:
        raise RunError(mismatch(path, where, f"{least:g} to {most:g}", repr(value)))


def check_numbers(path: Path, where: str, values: Any, optional: bool = False) -> None:
    """Refuse an object with a value that is no finite number (nor None, where optional)."""
    for key, value in read_object(path, where, values).items():
        if not (optional and value is None):
            check_number(path, f"{where}.{key}", value)


def check_keys(path: Path, where: str, values: Any, kind: type) -> None:
    """Refuse an object whose keys are not the fields of a dataclass."""
    expected = list(kind.__dataclass_fields__)  # type: ignore[attr-defined]
    if set(read_object(path, where, values)) != set(expected):
        raise RunError(mismatch(path, where, ", ".join(expected), values))


def check_arm(path: Path, where: str, arm: Any) -> str:
    """Return `arm`, which must be a known one."""
    if arm not in ARMS:
        raise RunError(mismatch(path, where, f"arms among {ARMS}", arm))
    return str(arm)


def read_interval(
    path: Path, where: str, values: Any, least: float, most: float | None
) -> Interval:
    """Read and check an interval whose numbers lie between `least` and `most`."""
    check_keys(path, where, values, Interval)
    check_numbers(path, where, values)
    found = Interval(**values)
    top = math.inf if most is None else most
    inside = least - ROUNDING <= found.low <= found.high <= top + ROUNDING
    if not (inside and least - ROUNDING <= found.mean <= top + ROUNDING):
        bounds = f"{least:g} <= low <= high" + ("" if most is None else f" <= {most:g}")
        raise RunError(mismatch(path, where, f"{bounds}, mean alike", values))
    if not isinstance(found.n, int) or found.n < 1:
        raise RunError(mismatch(path, f"{where}.n", "a count above 0", found.n))
    return found


def read_arms(path: Path, where: str, arms: Any) -> dict[str, Interval]:
    """Read and check arm -> interval of an accuracy."""
    return {
        check_arm(path, where, arm): read_interval(path, f"{where}.{arm}", values, 0, 1)
        for arm, values in read_object(path, where, arms).items()
    }
