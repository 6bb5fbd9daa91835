"""Results of the sideways experiment: one file, written and read here alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cattrs

from llgbm.deltas.atomic import write_json
from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.generators.sideways.agreement import Agreement
from llgbm.generators.sideways.experiment.starts import StartRow

SCHEMA, KIND = 2, "sideways experiment"
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class FrontArm:
    """What an arm of one seed named.

    Attributes:
        hypervolume: of what was measured on test examples.
        measured: metrics of each checkpoint on test examples.
    """

    hypervolume: float
    measured: tuple[Metrics, ...]


@dataclass(frozen=True)
class ArmVolume:
    """Hypervolume of an arm on test examples, with intervals over examples and texts.

    Attributes:
        volume: of the arm.
        over: rival -> the arm's volume minus the rival's on the same examples.
    """

    volume: Interval
    over: Mapping[str, Interval]


@dataclass(frozen=True)
class Gap:
    """A candidate: predicted, and measured on the examples that training metrics were measured on.

    Attributes:
        predicted: metrics.
        measured: likewise.
    """

    predicted: Metrics
    measured: Metrics


@dataclass(frozen=True)
class TrajectoryPoint:
    """A step of an unseen run, predicted from its first checkpoint.

    Attributes:
        step: of training.
        predicted: metrics.
        error: standard errors of these.
        measured: the same metrics; None where that step was not kept.
    """

    step: int
    predicted: Metrics
    error: Metrics
    measured: Metrics | None


@dataclass(frozen=True)
class LatentPoint:
    """A checkpoint on the map of latents.

    Attributes:
        part: of the split.
        x: first principal component of the training latents.
        y: the second; 0 where there is none.
        metrics: as measured.
    """

    part: str
    x: float
    y: float
    metrics: Metrics


@dataclass(frozen=True)
class SeedResults:
    """Of one split, fit and search.

    Attributes:
        agreement: who predicts -> metric -> agreement on the test runs.
        fronts: by arm.
        gaps: of every candidate, those that were not chosen among them.
        starts: by start.
        target: that starts were to reach.
        ends: who predicts -> metric -> mean absolute error at the end of test runs.
        path: way -> metrics of each point, on test examples.
        trajectories: test run -> its steps.
        latents: of all checkpoints.
    """

    agreement: Mapping[str, Mapping[str, Agreement]]
    fronts: Mapping[str, FrontArm]
    gaps: tuple[Gap, ...]
    starts: Mapping[str, StartRow]
    target: Metrics
    ends: Mapping[str, Metrics]
    path: Mapping[str, tuple[Metrics, ...]]
    trajectories: Mapping[str, tuple[TrajectoryPoint, ...]]
    latents: tuple[LatentPoint, ...]


@dataclass(frozen=True)
class SidewaysResults:
    """All of it.

    Attributes:
        preset: its name.
        scale: in words.
        environment: commit, versions, device, seed.
        metrics: names.
        reference: metrics that hypervolumes are counted from, by seed.
        seeds: by seed.
        seconds: by part, all calls together.
        volumes: seed, or `mean` of all -> arm -> hypervolume.
    """

    preset: str
    scale: str
    environment: Mapping[str, Any]
    metrics: tuple[str, ...]
    reference: Mapping[str, Metrics]
    seeds: Mapping[str, SeedResults]
    seconds: Mapping[str, float]
    volumes: Mapping[str, Mapping[str, ArmVolume]]

    def write(self, path: Path) -> None:
        """Write the file, atomically."""
        write_json(path, {"schema": SCHEMA, "kind": KIND, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> SidewaysResults:
        """Read and check.

        Raises:
            RunError: missing, malformed or of another kind.
        """
        content = read_json(path, RunError)
        found = (content.pop("schema", None), content.pop("kind", None))
        if found != (SCHEMA, KIND):
            raise RunError(mismatch(path, "schema and kind", (SCHEMA, KIND), found))
        try:
            return _CONVERTER.structure(content, cls)
        except (KeyError, cattrs.BaseValidationError) as error:
            raise RunError(f"{path}: expected a sideways experiment, got {error}") from error
