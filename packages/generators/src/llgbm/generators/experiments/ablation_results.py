"""Results of an ablation: one writer, one reader."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llgbm.deltas.atomic import write_json
from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.generators.experiments.measure import Measured

SCHEMA, KIND = 1, "ablation"
RESAMPLES = 2000
METRICS = ("cosine", "held_out_cosine", "kl", "accuracy", "condition_sensitivity")


@dataclass(frozen=True)
class VariantResult:
    """One variant.

    Attributes:
        steps: of each of its trainings.
        seconds: of training steps, mean over seeds.
        steps_on_probes: of each training, those that ran the base on the probes; mean over seeds.
        steps_on_tasks: those that ran it on the tasks' own examples.
        seeds: trainings.
        metrics: split -> metric -> interval over seeds and examples (or probes); its `n` counts
            values, seeds times examples of all tasks.
        over_reference: split -> metric -> interval of this variant minus the reference, paired
            by seed, task and example; empty for the reference.
    """

    steps: int
    seconds: float
    steps_on_probes: float
    steps_on_tasks: float
    seeds: int
    metrics: Mapping[str, Mapping[str, Interval]]
    over_reference: Mapping[str, Mapping[str, Interval]]


@dataclass(frozen=True)
class AblationResults:
    """What an ablation found.

    Attributes:
        name: of the ablation.
        question: that it asks.
        scale: in words.
        environment: commit, versions, device, seed.
        reference: name of the variant that others are compared with.
        variants: by name, in order.
    """

    name: str
    question: str
    scale: str
    environment: Mapping[str, Any]
    reference: str
    variants: Mapping[str, VariantResult]

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, {"schema": SCHEMA, "kind": KIND, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> AblationResults:
        """Read and check a file.

        Raises:
            RunError: missing, malformed, of another kind, or with numbers that are none.
        """
        content = read_json(path, RunError)
        found = (content.pop("schema", None), content.pop("kind", None))
        if found != (SCHEMA, KIND):
            raise RunError(mismatch(path, "schema and kind", (SCHEMA, KIND), found))
        try:
            variants = {
                name: VariantResult(
                    **{
                        **values,
                        "metrics": _intervals(values["metrics"]),
                        "over_reference": _intervals(values["over_reference"]),
                    }
                )
                for name, values in content.pop("variants").items()
            }
            results = cls(variants=variants, **content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"{path}: expected an ablation's results, got {error!r}") from error
        if results.reference not in variants:
            raise RunError(mismatch(path, "reference", sorted(variants), results.reference))
        return results


def _intervals(content: Mapping[str, Any]) -> dict[str, dict[str, Interval]]:
    found = {
        split: {metric: Interval(**values) for metric, values in metrics.items()}
        for split, metrics in content.items()
    }
    for metrics in found.values():
        for metric, value in metrics.items():
            if not all(math.isfinite(x) for x in (value.mean, value.low, value.high)):
                raise ValueError(f"{metric}: {value}")
    return found


# Of every task, values [seeds, examples].
Values = list[NDArray[np.float64]]


def values_of(measured: Sequence[Measured], metric: str) -> Values | None:
    """Values of a metric by task: [seeds, examples], or [seeds, probes].

    Returns:
        None where the metric was not measured.
    """
    if metric == "condition_sensitivity" and not measured[0].wrong_condition:
        return None
    found = []
    for task in range(len(measured[0].tasks)):
        if metric == "accuracy":
            rows = [item.correct[task] for item in measured]
        elif metric == "condition_sensitivity":
            rows = [
                tuple(np.subtract(item.correct[task], item.wrong_condition[task]))
                for item in measured
            ]
        else:
            rows = [getattr(item, metric)[task] for item in measured]
        found.append(np.asarray(rows, dtype=np.float64))
    return found


def resampled(values: Values, seed: int = 0) -> Interval:
    """Mean over seeds, tasks and examples, with a 95% bootstrap interval.

    Seeds are resampled, and examples (or probes) within tasks: the interval speaks of other
    seeds and other examples of these tasks, not of other tasks.

    Args:
        values: of every task, [seeds, examples].
        seed: of the resampling.
    """
    rng = np.random.default_rng(seed)
    seeds = len(values[0])
    means = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        chosen = rng.integers(0, seeds, seeds)
        means[index] = np.mean(
            [
                rows[chosen][:, rng.integers(0, rows.shape[1], rows.shape[1])].mean()
                for rows in values
            ]
        )
    low, high = np.quantile(means, [0.025, 0.975])
    mean = float(np.mean([rows.mean() for rows in values]))
    return Interval(mean, float(low), float(high), sum(rows.size for rows in values))
