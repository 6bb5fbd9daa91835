"""Results of the composition experiment: one writer, one reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llgbm.deltas.atomic import write_json
from llgbm.deltas.bootstrap import Interval
from llgbm.generators.evaluation.result_json import read_result

SCHEMA, KIND = 1, "composition"


@dataclass(frozen=True)
class Additivity:
    """Cosines of a mixed teacher's delta.

    Attributes:
        with_sum: with the sum of both teachers' deltas.
        with_first: with the first teacher's.
        with_second: with the second teacher's.
        with_predicted: with the sum of the retriever's predictions; None on probes that it does
            not predict.
    """

    with_sum: float
    with_first: float
    with_second: float
    with_predicted: float | None


@dataclass(frozen=True)
class CompositionResults:
    """What the composition experiment found.

    Attributes:
        scale: in words.
        environment: commit, versions, device, seed.
        additivity: probes (`generic`, and those held out) -> pair -> cosines.
        accuracy: arm -> pair -> task -> interval over examples.
        mean: arm -> interval of the mean over all pairs' tasks.
        over_average: arm -> interval of its difference from the plain average of both teachers.
        retained: arm -> (arm - base) / (own teacher - base), each a mean over all tasks; None
            where the teachers gain nothing.
    """

    scale: str
    environment: Mapping[str, Any]
    additivity: Mapping[str, Mapping[str, Additivity]]
    accuracy: Mapping[str, Mapping[str, Mapping[str, Interval]]]
    mean: Mapping[str, Interval]
    over_average: Mapping[str, Interval]
    retained: Mapping[str, float | None]

    def write(self, path: Path) -> None:
        """Write the file atomically."""
        write_json(path, {"schema": SCHEMA, "kind": KIND, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> CompositionResults:
        """Read and check a file.

        Raises:
            RunError: missing, malformed or of another kind.
        """
        return read_result(path, cls, SCHEMA, KIND, "composition results")


def composition_table(results: CompositionResults) -> str:
    """Additivity by pair, then the interference table, as aligned text."""
    lines = []
    for probes, pairs in results.additivity.items():
        lines.append(f"\ncosine of the mixed teacher's delta, {probes} probes")
        lines.append(f"{'':<52}{'sum':>8}{'first':>8}{'second':>8}{'predicted':>11}")
        for pair, found in pairs.items():
            predicted = "-" if found.with_predicted is None else f"{found.with_predicted:.3f}"
            lines.append(
                f"{pair:<52}{found.with_sum:>8.3f}{found.with_first:>8.3f}"
                f"{found.with_second:>8.3f}{predicted:>11}"
            )
    lines.append(f"\n{'interference':<24}{'accuracy':>10}{'95%':>18}{'of the gain kept':>20}")
    for arm, value in results.mean.items():
        kept = results.retained[arm]
        words = "-" if kept is None else f"{kept:.0%}"
        bounds = f"[{value.low:.3f}, {value.high:.3f}]"
        lines.append(f"{arm:<24}{value.mean:>10.3f}{bounds:>18}{words:>20}")
    return "\n".join(lines)
