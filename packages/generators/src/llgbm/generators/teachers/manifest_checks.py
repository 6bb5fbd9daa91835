"""Checks of manifest.json: everything that a reader of the index relies on, once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from llgbm.deltas.errors import RunError, mismatch
from llgbm.generators.teachers.shards import Split

# What a value must be, in words, and whether it is.
Check = tuple[str, Callable[[Any], bool]]


def _at_least(least: int) -> Check:
    def holds(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    return f"a whole number of at least {least}", holds


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


STRING: Check = ("a string", lambda value: isinstance(value, str))
STRINGS: Check = (
    "a list of strings",
    lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
)
WHOLE: Check = (
    "a whole number",
    lambda value: isinstance(value, int) and not isinstance(value, bool),
)
COUNT = _at_least(1)
NUMBER: Check = ("a finite number", _is_number)
NUMBERS: Check = (
    "a list of finite numbers",
    lambda value: isinstance(value, list) and all(map(_is_number, value)),
)
OBJECT: Check = ("an object", lambda value: isinstance(value, dict))
OBJECTS: Check = (
    "a list of objects",
    lambda value: isinstance(value, list) and all(isinstance(item, dict) for item in value),
)

INDEX = {
    "base_model": STRING,
    "base_fingerprint": STRING,
    "settings": OBJECT,
    "adapters": OBJECTS,
}
SETTINGS = {
    "tasks": STRINGS,
    "held_out": STRINGS,
    "teachers_per_task": COUNT,
    "seed": WHOLE,
    "optim": OBJECT,
}
OPTIM = {"steps": COUNT, "max_tokens": COUNT}
ENTRY = {
    **dict.fromkeys(("id", "task", "family", "path", "fingerprint"), STRING),
    "split": (f"one of {list(get_args(Split))}", lambda value: value in get_args(Split)),
    "train_examples": COUNT,
    "steps": _at_least(0),  # none of a teacher that was imported
    "final_loss": NUMBER,
    "losses": NUMBERS,
}


def check_manifest(path: Path, content: Mapping[str, Any]) -> None:
    """Raise RunError for the first value that is missing or of another type.

    Args:
        path: of the index, for the error.
        content: of the file.
    """
    _check(path, "", content, INDEX)
    settings = content["settings"]
    _check(path, "settings.", settings, SETTINGS)
    if "validation" in settings:  # which came later
        _check(path, "settings.", settings, {"validation": STRINGS})
    _check(path, "settings.optim.", settings["optim"], OPTIM)
    for place, entry in enumerate(content["adapters"]):
        if set(entry) != set(ENTRY):
            raise RunError(mismatch(path, "adapters", f"entries with {list(ENTRY)}", list(entry)))
        _check(path, f"adapters.{place}.", entry, ENTRY)


def _check(path: Path, where: str, values: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    for key, (words, holds) in checks.items():
        if not holds(values.get(key)):
            raise RunError(mismatch(path, f"{where}{key}", words, repr(values.get(key))))
