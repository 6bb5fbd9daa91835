"""What the report of a run shows, gathered from the files that the run has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import cattrs
from safetensors import safe_open

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.metrics_log import read_metrics
from llgbm.deltas.module_files import CONFIG, check_pair, read_module_config
from llgbm.latentwire.commands.evaluate import EVALUATION
from llgbm.latentwire.diagnostics import part_of
from llgbm.latentwire.evaluation.answers import wrong_values
from llgbm.latentwire.evaluation.results import Evaluation
from llgbm.latentwire.report.looks import Look, read_looks
from llgbm.latentwire.training.config import TrainConfig
from llgbm.latentwire.training.files import TENSORS, RunFiles, read_settings
from llgbm.latentwire.two_readers.files import COMMAND as TWO_COMMAND
from llgbm.latentwire.two_readers.files import has_two_readers
from llgbm.latentwire.two_readers.files import read_settings as shared_settings
from llgbm.latentwire.two_readers.results import FILE as TWO_READERS
from llgbm.latentwire.two_readers.results import JointResult, TwoReadersEvaluation

# Points of one quantity, a list a stage: a line is not drawn across stages.
Curve = Sequence[Sequence[tuple[int, float]]]
# What every line of metrics.jsonl has beside its numbers.
WORDS = ("step", "stage", "split")
SPLITS = ("train", "validation")
_CONVERTER = cattrs.Converter()


@dataclass(frozen=True)
class Best:
    """The compressor that a run keeps.

    Attributes:
        step: at which it was, over all stages.
        stage: whose validation chose it.
        validation: smoothed nats a token there.
        sizes: part -> numbers in its file.
    """

    step: int
    stage: str
    validation: float
    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Finished:
    """The end of a training.

    Attributes:
        steps: over all stages.
        seconds: that they took.
        parameters: trained, numbers.
        environment: commit, versions, device, seed.
    """

    steps: int
    seconds: float
    parameters: int
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class RunData:
    """What the report shows; a part whose file is missing is None or empty.

    Attributes:
        name: of the folder.
        config: of the training.
        best: the compressor kept.
        finished: its end.
        stages: stage -> its first step.
        curves: split -> quantity -> curve.
        looks: lines of diagnostics.jsonl.
        evaluations: the table, with answers, by the reader's place: `first` and `second` of two,
            empty for one.
        joint: what two readers answer together.
    """

    name: str
    config: TrainConfig
    best: Best | None
    finished: Finished | None
    stages: Mapping[str, int]
    curves: Mapping[str, Mapping[str, Curve]]
    looks: Sequence[Look]
    evaluations: Mapping[str, Evaluation]
    joint: JointResult | None = None


def gather(folder: Path) -> RunData:
    """Read a run.

    Raises:
        RunError: no run there, or a malformed file.
        ConfigError: settings that this version does not know.
    """
    files = RunFiles(folder)
    two = has_two_readers(files)
    command = TWO_COMMAND if two else "llgbm-latentwire train"
    config = shared_settings(files) if two else read_settings(files)
    records = _metrics(files.metrics)
    stages: dict[str, int] = {}
    for record in records:
        if record["split"] == "train":
            stages.setdefault(record["stage"], record["step"])
    evaluations, joint = _of_two(folder) if two else (_of_one(folder), None)
    return RunData(
        folder.resolve().name,
        config,
        _best(files, command) if (files.compressor / CONFIG).exists() else None,
        _finished(files.finished) if files.finished.exists() else None,
        stages,
        {split: _curves(records, split) for split in SPLITS},
        read_looks(files.diagnostics),
        evaluations,
        joint,
    )


def _of_one(folder: Path) -> Mapping[str, Evaluation]:
    path = folder / EVALUATION
    return {"": Evaluation.read(path)} if path.exists() else {}


def _of_two(folder: Path) -> tuple[Mapping[str, Evaluation], JointResult | None]:
    if not (folder / TWO_READERS).exists():
        return {}, None
    found = TwoReadersEvaluation.read(folder)
    return found.readers, found.joint


def _best(files: RunFiles, command: str) -> Best:
    """The compressor kept, without loading it.

    Args:
        files: of the run.
        command: that fills them.

    Raises:
        RunError: half-written, or without its metadata.
    """
    description, metadata = read_module_config(files.compressor, command)
    tensors = files.compressor / TENSORS
    check_pair(tensors, description)
    step, stage, validation = (metadata.get(key) for key in ("step", "stage", "validation"))
    if not (_is_number(step) and isinstance(stage, str) and _is_number(validation)):
        expected, got = "step, stage and validation", (step, stage, validation)
        raise RunError(mismatch(files.compressor / CONFIG, "metadata", expected, got))
    sizes: dict[str, int] = {}
    with safe_open(tensors, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118
            numbers = math.prod(opened.get_slice(name).get_shape())
            sizes[part_of(name)] = sizes.get(part_of(name), 0) + numbers
    return Best(int(step), stage, validation, sizes)


def _finished(path: Path) -> Finished:
    """The end of a training.

    Raises:
        RunError: malformed.
    """
    try:
        return _CONVERTER.structure(read_json(path, RunError), Finished)
    except cattrs.BaseValidationError as error:
        raise RunError(
            f"{path}: expected a finished training, got {wrong_values(error)}"
        ) from error


def _metrics(path: Path) -> list[dict[str, Any]]:
    """Lines of metrics.jsonl; none where there is no file.

    Raises:
        RunError: a line without a split or stage, or with what is no number.
    """
    records = read_metrics(path)
    for record in records:
        if not _is_number(record["step"]):
            raise RunError(mismatch(path, "step", "a whole number below 2**63", "a larger one"))
        where = f"step {record['step']}"
        if record.get("split") not in SPLITS:
            expected = f"one of {', '.join(SPLITS)}"
            raise RunError(mismatch(path, f"{where}: split", expected, repr(record.get("split"))))
        if not isinstance(record.get("stage"), str):
            got = repr(record.get("stage"))
            raise RunError(mismatch(path, f"{where}: stage", "a string", got))
        for key, value in record.items():
            if key not in WORDS and not _is_number(value):
                raise RunError(mismatch(path, f"{where}: {key}", "a number", repr(value)))
    return records


def _is_number(value: Any) -> TypeGuard[float]:
    # A whole number that no float holds is none that anything here wrote.
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and (isinstance(value, float) or abs(value) < 2**63)


def _curves(records: Sequence[Mapping[str, Any]], split: str) -> dict[str, Curve]:
    """Every number of a split as a curve."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for record in records:
        if record["split"] != split:
            continue
        for key, value in record.items():
            if key not in WORDS:
                stages = found.setdefault(key, {})
                stages.setdefault(record["stage"], []).append((record["step"], value))
    return {key: list(stages.values()) for key, stages in found.items()}
