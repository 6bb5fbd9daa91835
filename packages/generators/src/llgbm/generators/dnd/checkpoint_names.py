"""What the names of DnD's files say: model size, task and step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from llgbm.deltas.errors import RunError, mismatch

GENERATOR_SUFFIX, TEACHER_SUFFIX = ".pth", ".safetensors"
# Steps are written at multiples of this: other digits at the end belong to the task.
STEP_UNIT = 1000
_GENERATOR = re.compile(r"(?P<model>[^_]+)__(?P<task>.+)")
_SIZE = re.compile(r"(?P<size>\d+(\.\d+)?)(?=\D|$)")
_STEP = re.compile(r"(?P<task>.*?\D)(?P<step>0|[1-9]\d*)")


@dataclass(frozen=True)
class CheckpointInfo:
    """What a file is.

    Attributes:
        path: of the file.
        task: such as `ARC-c`.
        step: of the training that wrote it; None for a generator's latest.
        model: tag of the generator's base, such as `qwen0.5lora`; None for a teacher.
        model_size: such as `0.5B`; None where the name holds no number.
    """

    path: Path
    task: str
    step: int | None
    model: str | None = None
    model_size: str | None = None

    @property
    def is_generator(self) -> bool:
        """Whether the file holds a generator; else a teacher adapter."""
        return self.path.suffix == GENERATOR_SUFFIX


def parse_generator_name(path: Path | str) -> CheckpointInfo:
    """Read `MODEL__TASK.pth` or `MODEL__TASKstep.pth`, e.g. `qwen0.5lora__ARC-c1000.pth`.

    The step follows the task without a mark: digits at the end are a step where they are 0 or
    a multiple of 1000 without leading zeros, and part of the task otherwise.

    Raises:
        RunError: a name of another form.
    """
    path = Path(path)
    match = _GENERATOR.fullmatch(path.stem)
    if path.suffix != GENERATOR_SUFFIX or match is None:
        raise RunError(mismatch(path, "name", "MODEL__TASK[step].pth", path.name))
    task, step = match["task"], None
    stepped = _STEP.fullmatch(task)
    if stepped is not None and int(stepped["step"]) % STEP_UNIT == 0:
        task, step = stepped["task"], int(stepped["step"])
    size = _SIZE.search(match["model"])
    return CheckpointInfo(
        path, task, step, match["model"], None if size is None else f"{size['size']}B"
    )


def parse_teacher_name(path: Path | str) -> CheckpointInfo:
    """Read `TASK/STEP.safetensors`, e.g. `ARC-c/250.safetensors`.

    Raises:
        RunError: a name of another form.
    """
    path = Path(path)
    if path.suffix != TEACHER_SUFFIX or not re.fullmatch(r"[0-9]+", path.stem):
        raise RunError(
            mismatch(path, "name", "STEP.safetensors", path.name)
            + " (a folder with adapter_config.json is read by load_adapter)"
        )
    return CheckpointInfo(path, path.absolute().parent.name, int(path.stem))
