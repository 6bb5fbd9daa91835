"""ReportData: everything a report shows, gathered from a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llgbm.deltas.by_layer import directions
from llgbm.deltas.commands.cached import read_cache
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.metrics_log import read_metrics
from llgbm.generators.evaluation.result_checks import check_number
from llgbm.generators.evaluation.results import Results
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest

Curve = Sequence[tuple[int, float]]
# What the report shows of an answered question.
ANSWER_KEYS = {"question", "gold", "base", "adapted"}


@dataclass(frozen=True)
class ReportData:
    """What the report shows.

    Attributes:
        results: numbers of the evaluation.
        manifest: teachers with their losses.
        deltas: [N, d] float32, the direction of each teacher's, layers alike.
        labels: task of each row.
        held_out: whether the row's family is held out.
        curves: generator -> quantity -> points.
        answers: questions with the answers of base and base + adapter; may be empty.
    """

    results: Results
    manifest: Manifest
    deltas: NDArray[np.float32]
    labels: Sequence[str]
    held_out: Sequence[bool]
    curves: Mapping[str, Mapping[str, Curve]]
    answers: Sequence[Mapping[str, str]]


def gather(run: RunFolder) -> ReportData:
    """Read a run.

    Raises:
        RunError: a part is missing.
        CacheError: the delta cache is missing or damaged.
    """
    results = Results.read(run.results)
    manifest = Manifest.read(run.manifest)
    ids, deltas = read_cache(run.deltas)
    entries = {entry.id: entry for entry in manifest.adapters}
    rows = [index for index, name in enumerate(ids) if name in entries]
    return ReportData(
        results,
        manifest,
        directions(deltas[rows]).numpy(),
        [entries[ids[row]].task for row in rows],
        [entries[ids[row]].held_out for row in rows],
        {name: _curves(run.generator(name)) for name in run.generators},
        _answers(run),
    )


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every number of metrics.jsonl as a curve, validation quantities under their own names."""
    curves: dict[str, list[tuple[int, float]]] = {}
    file = folder / "metrics.jsonl"
    for record in read_metrics(file):
        where, split = f"step {record['step']}", record.get("split")
        if not isinstance(split, str):
            raise RunError(mismatch(file, f"{where}: split", "a string", repr(split)))
        prefix = "" if split == "train" else split.replace("_", " ") + " "
        for key, value in record.items():
            if key not in ("step", "split"):
                check_number(file, f"{where}: {key}", value)
                curves.setdefault(prefix + key, []).append((record["step"], value))
    return curves


def _answers(run: RunFolder) -> list[dict[str, Any]]:
    path = run.results.with_name("answers.json")
    if not path.exists():
        return []
    answers = read_json(path, RunError).get("answers")
    if not isinstance(answers, list):
        raise RunError(mismatch(path, "answers", "a list", type(answers).__name__))
    for place, answer in enumerate(answers):
        if not isinstance(answer, dict) or ANSWER_KEYS - set(answer):
            expected = f"an object with {sorted(ANSWER_KEYS)}"
            raise RunError(mismatch(path, f"answers.{place}", expected, repr(answer)))
    return answers
