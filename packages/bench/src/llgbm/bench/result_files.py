"""Reading result files: what `compare` and `report` use of one is checked here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.generators.evaluation.result_checks import is_number, read_object

# Suites, and the sizes in the config that name a plot.
SIZES = {
    "delta-forward": ("n", "t", "r"),
    "generator-step": ("n", "t", "r"),
    "teach": ("n", "t", "r"),
    "generate": ("n",),
    "kernels": (),
    "latentwire": ("ratio", "new_tokens"),
    "sideways": ("runs", "checkpoints_per_run", "blocks"),
}
# What others are divided by, or draw a bar.
_ABOVE_ZERO = ("median_ms", "times_base", "adapters_per_s")


def read_results(path: Path) -> dict[str, Any]:
    """Read a file that a suite of llgbm-bench wrote.

    Raises:
        RunError: malformed, of no suite, or without what every result of its suite has.
    """
    results = read_json(path, RunError)
    suite = results.get("suite")
    if not isinstance(suite, str) or suite not in SIZES:
        raise RunError(mismatch(path, "suite", "one of llgbm-bench", repr(suite)))
    _check_has(path, "config", results.get("config"), SIZES[suite])
    _check_has(path, "environment", results.get("environment"), ("dtype", "device"))
    if suite == "kernels":
        _check_cases(path, results.get("cases"))
    elif suite == "latentwire":
        _check_prompts(path, results.get("cases"))
    elif suite == "generate":
        _check_rows(path, "rows", results.get("rows"), ("median_ms", "adapters_per_s"))
        _check_has(path, "rows", results["rows"], ("one_by_one",))
    else:
        _check_rows(path, "rows", results.get("rows"), ("median_ms", "times_base"))
    return results


def _listed(path: Path, cases: Any) -> list[Any]:
    """Refuse what is no list of cases."""
    if not isinstance(cases, list) or not cases:
        raise RunError(mismatch(path, "cases", "a list of at least one", repr(cases)))
    return cases


def _check_prompts(path: Path, cases: Any) -> None:
    """Cases of latents against text."""
    for index, case in enumerate(_listed(path, cases)):
        where = f"cases.{index}"
        keys = ("batch", "tokens", "rows", "times_text", "break_even_reuses")
        _check_has(path, where, case, keys)
        _check_rows(path, f"{where}.rows", case["rows"], ("median_ms",))
        for name, ratio in read_object(path, f"{where}.times_text", case["times_text"]).items():
            if not (is_number(ratio) and ratio > 0):
                place = f"{where}.times_text.{name}"
                raise RunError(mismatch(path, place, "a number above 0", repr(ratio)))
        reuses = case["break_even_reuses"]
        if reuses != "never" and not (is_number(reuses) and reuses > 0):
            place = f"{where}.break_even_reuses"
            raise RunError(mismatch(path, place, "a number above 0, or never", repr(reuses)))


def _check_cases(path: Path, cases: Any) -> None:
    for index, case in enumerate(_listed(path, cases)):
        where = f"cases.{index}"
        _check_has(path, where, case, ("shapes", "n", "rows", "r", "rivals"))
        # A rival that is timed forward alone has no time of both; the base has.
        _check_rows(path, f"{where}.rivals", case["rivals"], ())
        base = case["rivals"].get("base_alone")
        _check_has(path, f"{where}.rivals.base_alone", base, ("median_ms", "times_base"))


def _check_rows(path: Path, where: str, rows: Any, keys: tuple[str, ...]) -> None:
    """Refuse what is no object of rows with these keys and numbers above 0."""
    if not read_object(path, where, rows):
        raise RunError(mismatch(path, where, "at least one row", "none"))
    for name, row in rows.items():
        _check_has(path, f"{where}.{name}", row, keys)
        for key in _ABOVE_ZERO:
            if key in row and not (is_number(row[key]) and row[key] > 0):
                place = f"{where}.{name}.{key}"
                raise RunError(mismatch(path, place, "a number above 0", repr(row[key])))


def _check_has(path: Path, where: str, values: Any, keys: tuple[str, ...]) -> None:
    """Refuse what is no object with these keys."""
    found = read_object(path, where, values)
    missing = [key for key in keys if key not in found]
    if missing:
        raise RunError(mismatch(path, where, f"the keys {list(keys)}", f"no {missing}"))
