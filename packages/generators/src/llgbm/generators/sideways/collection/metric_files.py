"""What was measured of checkpoints, from files beside them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json

RUN_FILE = "metrics.json"
Key = tuple[str, int]


@dataclass(frozen=True)
class Measured:
    """Numbers of one checkpoint.

    Attributes:
        metrics: by name.
        hyperparameters: by name.
    """

    metrics: Mapping[str, float]
    hyperparameters: Mapping[str, float]


def read_run_file(path: Path, run: str) -> dict[Key, Measured]:
    """Read a run's own metrics.json: {"hyperparameters": {...}, "steps": {"100": {...}}}.

    Hyperparameters that are words are left out.

    Raises:
        RunError: another form, or values that are no numbers.
    """
    content = read_json(path, RunError)
    steps = content.get("steps")
    if not isinstance(steps, Mapping) or not steps:
        raise RunError(mismatch(path, "steps", "metrics by step", type(steps).__name__))
    numbers = _numbers(content.get("hyperparameters", {}), path, "hyperparameters", words=True)
    return {
        (run, _step(step, path)): Measured(_numbers(values, path, f"step {step}"), numbers)
        for step, values in steps.items()
    }


def read_table(path: Path, hyperparameters: tuple[str, ...]) -> dict[Key, Measured]:
    """Read a CSV with the columns `run`, `step`, and one a number.

    Args:
        path: of the table.
        hyperparameters: columns that are such; all others are metrics.

    Raises:
        RunError: no such file or columns, or values that are no numbers.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise RunError(f"{path}: {error.strerror or error}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path}: expected a CSV in UTF-8, got {error}") from error
    found: dict[Key, Measured] = {}
    for line, row in enumerate(rows, 2):
        lacking = [name for name in ("run", "step", *hyperparameters) if row.get(name) is None]
        if lacking or None in row:
            raise RunError(
                f"{path}: line {line}: expected columns run, step and one a number, got "
                f"{[key for key in row if key]}"
            )
        key = (row.pop("run"), _step(row.pop("step"), path))
        if key in found:
            raise RunError(f"{path}: line {line}: {key[0]}, step {key[1]}: got twice")
        values = _numbers(row, path, f"line {line}")
        found[key] = Measured(
            {name: value for name, value in values.items() if name not in hyperparameters},
            {name: values[name] for name in hyperparameters},
        )
    return found


def _step(value: Any, path: Path) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise RunError(mismatch(path, "step", "a whole number", repr(value))) from error


def _numbers(values: Any, path: Path, where: str, words: bool = False) -> dict[str, float]:
    """Numbers by name; words (the name of an optimiser) are left out where they may be."""
    if not isinstance(values, Mapping):
        raise RunError(mismatch(path, where, "numbers by name", type(values).__name__))
    found = {}
    for name, value in values.items():
        if words and isinstance(value, str):
            continue
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError) as error:
            raise RunError(mismatch(path, f"{where}: {name}", "a number", repr(value))) from error
    return found
