"""results.json: one writer, one reader."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.generators.evaluation.arms import ARMS
from llgbm.generators.evaluation.bootstrap import Interval

SCHEMA = 1
SPLITS = ("seen", "held_out_family")
# What every result says of where it comes from, at least.
ENVIRONMENT = ("commit", "versions", "device", "seed")
ByArm = Mapping[str, Interval]


@dataclass(frozen=True)
class Results:
    """What an evaluation found.

    Attributes:
        scale: in words: model, tasks, teachers, examples; stands wherever a number is shown.
        environment: commit, versions, device, seed.
        accuracy: split -> arm -> interval, between 0 and 1.
        accuracy_by_task: task -> arm -> interval.
        split_of_task: task -> split.
        metrics: named numbers, see `llgbm.generators.evaluation.metrics`.
        delta_cosine: `validation` and `held_out_probes` -> generator -> mean cosine of the
            computed delta with the task's teachers.
        seconds: step of the run -> wall-clock seconds, where known.
    """

    scale: str
    environment: Mapping[str, Any]
    accuracy: Mapping[str, ByArm]
    accuracy_by_task: Mapping[str, ByArm]
    split_of_task: Mapping[str, str]
    metrics: Mapping[str, float | None]
    delta_cosine: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read and check a file.

        Raises:
            RunError: missing, malformed, of another schema, or with impossible numbers.
        """
        if not path.exists():
            raise RunError(f"{path}: not found: run `llgbm evaluate` first")
        content = read_json(path, RunError)
        schema = content.pop("schema", None)
        if schema != SCHEMA:
            raise RunError(mismatch(path, "schema", SCHEMA, repr(schema)))
        expected, got = set(cls.__dataclass_fields__), set(content)
        if expected != got:
            raise RunError(mismatch(path, "keys", sorted(expected), sorted(got)))
        if not isinstance(content["scale"], str):
            raise RunError(mismatch(path, "scale", "a text", repr(content["scale"])))
        for key in sorted(expected - {"scale"}):
            _read_object(path, key, content[key])
        missing = [key for key in ENVIRONMENT if key not in content["environment"]]
        if missing:
            raise RunError(mismatch(path, "environment", f"{ENVIRONMENT}", f"no {missing}"))
        unknown = sorted(set(content["accuracy"]) - set(SPLITS))
        if unknown or not content["accuracy"]:
            raise RunError(mismatch(path, "accuracy", f"splits among {SPLITS}", unknown))
        for key in ("accuracy", "accuracy_by_task"):
            content[key] = {
                name: _read_arms(path, f"{key}.{name}", arms) for name, arms in content[key].items()
            }
        tasks, placed = content["accuracy_by_task"], content["split_of_task"]
        if set(tasks) != set(placed) or not all(split in SPLITS for split in placed.values()):
            raise RunError(
                mismatch(path, "split_of_task", f"a split of {SPLITS} for {sorted(tasks)}", placed)
            )
        _check_numbers(path, "metrics", content["metrics"], optional=True)
        _check_numbers(path, "seconds", content["seconds"])
        if "validation" not in content["delta_cosine"]:
            raise RunError(mismatch(path, "delta_cosine", "validation", "none"))
        for key, cosines in content["delta_cosine"].items():
            _check_numbers(path, f"delta_cosine.{key}", cosines)
        return cls(**content)


def _read_object(path: Path, where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise RunError(mismatch(path, where, "an object", type(value).__name__))
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_numbers(path: Path, where: str, values: Any, optional: bool = False) -> None:
    for key, value in _read_object(path, where, values).items():
        if not (_is_number(value) or (optional and value is None)):
            raise RunError(mismatch(path, f"{where}.{key}", "a finite number", repr(value)))


def _read_arms(path: Path, where: str, arms: Any) -> dict[str, Interval]:
    read = {}
    for arm, values in _read_object(path, where, arms).items():
        if arm not in ARMS:
            raise RunError(mismatch(path, where, f"arms among {ARMS}", arm))
        here = f"{where}.{arm}"
        if set(_read_object(path, here, values)) != set(Interval.__dataclass_fields__):
            raise RunError(mismatch(path, here, "mean, low, high, n", values))
        _check_numbers(path, here, values)
        read[arm] = found = Interval(**values)
        if not (0 <= found.low <= found.high <= 1 and 0 <= found.mean <= 1):
            raise RunError(mismatch(path, here, "0 <= low <= high <= 1, mean alike", values))
        if not isinstance(found.n, int) or found.n < 1:
            raise RunError(mismatch(path, f"{here}.n", "a count above 0", found.n))
    return read
