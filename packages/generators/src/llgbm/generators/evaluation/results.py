"""results.json: one writer, one reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llgbm.deltas.atomic import write_json
from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.generators.evaluation.result_blocks import (
    Alignment,
    ArmBehaviour,
    ArmParse,
    ArmRatios,
    read_alignment,
    read_behaviour,
    read_by_arm,
    read_clusters,
    read_difference,
    read_parse,
    read_ratios,
)
from llgbm.generators.evaluation.result_checks import check_numbers, read_arms, read_object

SCHEMA = 2
SPLITS = ("seen", "validation_family", "held_out_family")
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
        differences: split -> arm -> paired interval of generated - arm.
        behaviour: split -> arm -> cosine and KL on held-out probes, over tasks.
        nearest_teacher: split -> arm -> nearest-teacher ratios, over tasks.
        parse_rate: split -> arm -> free answers that are a choice, and right ones of these.
        clusters: space -> silhouettes of all teachers by task and by family.
        alignment: correlation of delta cosine and accuracy gain.
    """

    scale: str
    environment: Mapping[str, Any]
    accuracy: Mapping[str, ByArm]
    accuracy_by_task: Mapping[str, ByArm]
    split_of_task: Mapping[str, str]
    metrics: Mapping[str, float | None]
    delta_cosine: Mapping[str, Mapping[str, float]]
    seconds: Mapping[str, float]
    differences: Mapping[str, ByArm] = field(default_factory=dict)
    behaviour: Mapping[str, Mapping[str, ArmBehaviour]] = field(default_factory=dict)
    nearest_teacher: Mapping[str, Mapping[str, ArmRatios]] = field(default_factory=dict)
    parse_rate: Mapping[str, Mapping[str, ArmParse]] = field(default_factory=dict)
    clusters: Mapping[str, Mapping[str, float | None]] = field(default_factory=dict)
    alignment: Alignment = field(default_factory=Alignment)

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
            read_object(path, key, content[key])
        missing = [key for key in ENVIRONMENT if key not in content["environment"]]
        if missing:
            raise RunError(mismatch(path, "environment", f"{ENVIRONMENT}", f"no {missing}"))
        if not content["accuracy"]:
            raise RunError(mismatch(path, "accuracy", f"splits among {SPLITS}", "none"))
        for key in ("accuracy", *_BY_ARM):
            unknown = sorted(set(content[key]) - set(SPLITS))
            if unknown:
                raise RunError(mismatch(path, key, f"splits among {SPLITS}", unknown))
        for key in ("accuracy", "accuracy_by_task"):
            content[key] = {
                name: read_arms(path, f"{key}.{name}", arms) for name, arms in content[key].items()
            }
        tasks, placed = content["accuracy_by_task"], content["split_of_task"]
        if set(tasks) != set(placed) or not all(split in SPLITS for split in placed.values()):
            raise RunError(
                mismatch(path, "split_of_task", f"a split of {SPLITS} for {sorted(tasks)}", placed)
            )
        check_numbers(path, "metrics", content["metrics"], optional=True)
        check_numbers(path, "seconds", content["seconds"])
        if "validation" not in content["delta_cosine"]:
            raise RunError(mismatch(path, "delta_cosine", "validation", "none"))
        for key, cosines in content["delta_cosine"].items():
            check_numbers(path, f"delta_cosine.{key}", cosines)
        for key, read in _BY_ARM.items():
            content[key] = read_by_arm(path, key, content[key], read)
        content["clusters"] = read_clusters(path, content["clusters"])
        content["alignment"] = read_alignment(path, content["alignment"])
        return cls(**content)


# How each block of split -> arm -> something is read.
_BY_ARM: Mapping[str, Any] = {
    "differences": read_difference,
    "behaviour": read_behaviour,
    "nearest_teacher": read_ratios,
    "parse_rate": read_parse,
}
