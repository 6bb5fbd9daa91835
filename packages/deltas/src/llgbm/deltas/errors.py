"""Errors a user can cause: each names the file, the key, what was expected and what was found."""

from __future__ import annotations

import math
import re
from pathlib import Path


class LLGBMError(ValueError):
    """Base of every error that a command line prints in one line before it exits with 2."""


class AdapterError(LLGBMError):
    """An adapter folder or its weights cannot be used."""


class ModelError(LLGBMError):
    """A base model cannot be found or loaded, or does not fit the adapter."""


class TaskError(LLGBMError):
    """A task is unknown, empty or malformed."""


class CacheError(LLGBMError):
    """A delta cache is half-written, corrupt or belongs to something else."""


class RunError(LLGBMError):
    """A run folder is missing a part, is half-written or was made with other settings."""


class MissingPackageError(LLGBMError):
    """A package that carries offline models or data is not installed."""


class SettingError(LLGBMError):
    """A number or word of a command line is out of bounds."""


def require_at_least(least: float, **settings: float) -> None:
    """Raise SettingError for the first setting below `least`, or NaN or Inf.

    Args:
        least: smallest value allowed.
        settings: values by the name that the user knows.
    """
    for name, value in settings.items():
        if not least <= value < math.inf:
            finite = "" if math.isfinite(value) else " and finite"
            raise SettingError(f"{name}: expected at least {least:g}{finite}, got {value:g}")


def require_seed(seed: int) -> None:
    """Raise SettingError unless every generator that we seed takes `seed`: 0 to 2**32 - 1."""
    if not 0 <= seed < 2**32:
        raise SettingError(f"seed: expected from 0 to {2**32 - 1}, got {seed}")


def check_name(setting: str, name: str) -> None:
    """Raise SettingError unless `name` can be a folder of its own inside another."""
    if not re.fullmatch(r"[\w.-]+", name) or name.strip(".") == "":
        raise SettingError(
            f"{setting}: expected letters, digits, dots, dashes and underscores, got {name!r}"
        )


def mismatch(where: str | Path, what: str, expected: object, got: object) -> str:
    """Return "WHERE: WHAT: expected EXPECTED, got GOT", the wording that all errors share."""
    return f"{where}: {what}: expected {expected}, got {got}"
