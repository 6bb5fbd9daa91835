"""Parts of results.json beside accuracies: what they hold, and how they are read and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError, mismatch
from llgbm.generators.evaluation.alignment import Point
from llgbm.generators.evaluation.result_checks import (
    check_arm,
    check_keys,
    check_number,
    read_interval,
    read_object,
)

T = TypeVar("T")


@dataclass(frozen=True)
class ArmBehaviour:
    """How an arm's adapters behave beside the task's teachers, on held-out probes.

    Attributes:
        cosine: of deltas, -1 to 1; None where the arm has no delta (the base).
        kl: KL(teacher || arm) of next-token distributions, nats, at least 0.
    """

    cosine: Interval | None
    kl: Interval


@dataclass(frozen=True)
class ArmParse:
    """Free answers of an arm.

    Attributes:
        parsed: share that begins with one of the choices.
        correct: share of these that is right; None where none was parsed.
    """

    parsed: Interval
    correct: float | None


@dataclass(frozen=True)
class ArmRatios:
    """Nearest-teacher ratios of an arm, at least 0, in ΔW and in deltas; None where undefined."""

    delta_w: Interval | None
    delta: Interval | None


@dataclass(frozen=True)
class Alignment:
    """Delta cosine on held-out probes beside accuracy gain, over (adapter, task) pairs.

    Attributes:
        pearson: correlation; None where it is not defined.
        spearman: rank correlation, alike.
        points: the pairs.
    """

    pearson: Interval | None = None
    spearman: Interval | None = None
    points: tuple[Point, ...] = ()


def read_by_arm(
    path: Path, where: str, content: Any, read: Callable[[Path, str, Any], T]
) -> dict[str, dict[str, T]]:
    """Read split -> arm -> something; splits are checked by the caller."""
    return {
        split: {
            check_arm(path, f"{where}.{split}", arm): read(path, f"{where}.{split}.{arm}", values)
            for arm, values in read_object(path, f"{where}.{split}", arms).items()
        }
        for split, arms in read_object(path, where, content).items()
    }


def read_behaviour(path: Path, where: str, values: Any) -> ArmBehaviour:
    """Read and check an ArmBehaviour."""
    check_keys(path, where, values, ArmBehaviour)
    return ArmBehaviour(
        _optional(path, f"{where}.cosine", values["cosine"], -1, 1),
        read_interval(path, f"{where}.kl", values["kl"], 0, None),
    )


def read_parse(path: Path, where: str, values: Any) -> ArmParse:
    """Read and check an ArmParse."""
    check_keys(path, where, values, ArmParse)
    correct = values["correct"]
    if correct is not None:
        check_number(path, f"{where}.correct", correct, 0, 1)
    return ArmParse(read_interval(path, f"{where}.parsed", values["parsed"], 0, 1), correct)


def read_ratios(path: Path, where: str, values: Any) -> ArmRatios:
    """Read and check an ArmRatios."""
    check_keys(path, where, values, ArmRatios)
    return ArmRatios(
        _optional(path, f"{where}.delta_w", values["delta_w"], 0, None),
        _optional(path, f"{where}.delta", values["delta"], 0, None),
    )


def read_difference(path: Path, where: str, values: Any) -> Interval:
    """Read and check the interval of a difference of accuracies."""
    return read_interval(path, where, values, -1, 1)


def read_clusters(path: Path, content: Any) -> dict[str, Mapping[str, float | None]]:
    """Read and check space -> `task` and `family` -> silhouette."""
    for space, scores in read_object(path, "clusters", content).items():
        where = f"clusters.{space}"
        if set(read_object(path, where, scores)) != {"task", "family"}:
            raise RunError(mismatch(path, where, "task and family", sorted(scores)))
        for key, score in scores.items():
            if score is not None:
                check_number(path, f"{where}.{key}", score, -1, 1)
    return dict(content)


def read_alignment(path: Path, content: Any) -> Alignment:
    """Read and check an Alignment."""
    check_keys(path, "alignment", content, Alignment)
    points = content["points"]
    if not isinstance(points, list):
        raise RunError(mismatch(path, "alignment.points", "a list", type(points).__name__))
    read = []
    for place, values in enumerate(points):
        where = f"alignment.points.{place}"
        check_keys(path, where, values, Point)
        check_arm(path, where, values["arm"])
        for key in ("cosine", "gain"):
            check_number(path, f"{where}.{key}", values[key], -1.000001, 1.000001)
        read.append(Point(**values))
    return Alignment(
        _optional(path, "alignment.pearson", content["pearson"], -1, 1),
        _optional(path, "alignment.spearman", content["spearman"], -1, 1),
        tuple(read),
    )


def _optional(
    path: Path, where: str, values: Any, least: float, most: float | None
) -> Interval | None:
    return None if values is None else read_interval(path, where, values, least, most)
