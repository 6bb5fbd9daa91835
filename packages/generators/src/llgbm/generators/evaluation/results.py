"""results.json: one writer, one reader."""

from __future__ import annotations

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
        if content.pop("schema", None) != SCHEMA:
            raise RunError(mismatch(path, "schema", SCHEMA, "another one"))
        expected, got = set(cls.__dataclass_fields__), set(content)
        if expected != got:
            raise RunError(mismatch(path, "keys", sorted(expected), sorted(got)))
        unknown = sorted(set(content["accuracy"]) - set(SPLITS))
        if unknown:
            raise RunError(mismatch(path, "accuracy", f"splits among {SPLITS}", unknown))
        for key in ("accuracy", "accuracy_by_task"):
            content[key] = {
                name: _read_arms(path, f"{key}.{name}", arms) for name, arms in content[key].items()
            }
        return cls(**content)


def _read_arms(path: Path, where: str, arms: Any) -> dict[str, Interval]:
    if not isinstance(arms, dict):
        raise RunError(mismatch(path, where, "an object", type(arms).__name__))
    read = {}
    for arm, values in arms.items():
        if arm not in ARMS:
            raise RunError(mismatch(path, where, f"arms among {ARMS}", arm))
        try:
            read[arm] = Interval(**values)
            inside = 0 <= read[arm].low <= read[arm].high <= 1 and read[arm].n > 0
        except TypeError as error:
            raise RunError(
                mismatch(path, f"{where}.{arm}", "mean, low, high, n", values)
            ) from error
        if not inside:
            raise RunError(mismatch(path, f"{where}.{arm}", "0 <= low <= high <= 1", values))
    return read
