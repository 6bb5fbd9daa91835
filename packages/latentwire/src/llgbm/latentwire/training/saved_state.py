"""The state that an interrupted training goes on from: saved, checked, taken up again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.atomic import save_tensors, write_json
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.tensor_state import load_training_state, read_tensors, training_state
from llgbm.latentwire.training.config import StageConfig
from llgbm.latentwire.training.files import RunFiles
from llgbm.latentwire.training.step_losses import Loss

# What is saved of a training beside tensors, by the names of its attributes.
PROGRESS = ("stage", "step", "total", "smoothed", "best", "seconds")
# What AdamW keeps of a parameter that has moved, beside its step.
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class SavedState:
    """What was read of an interrupted run.

    Attributes:
        progress: the values of PROGRESS, and `objective`.
        tensors: trained parameters with their moments, and all that is held beside them.
    """

    progress: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def save_state(
    files: RunFiles,
    progress: Mapping[str, Any],
    compressor: nn.Module,
    objective: Loss,
    optimizer: torch.optim.Optimizer,
    trained: Mapping[str, nn.Parameter],
) -> None:
    """Write both files, each atomically; the total number of steps ties them together."""
    tensors = training_state(optimizer, list(trained.values()))
    tensors |= {
        f"held.{name}": each
        for name, each in _held(compressor, objective).items()
        if name not in trained
    }
    tensors["step"] = torch.tensor(progress["total"])
    save_tensors(files.state, tensors)
    write_json(files.progress, {**progress, "objective": objective.state()})


def read_state(files: RunFiles, stages: Sequence[StageConfig]) -> SavedState | None:
    """Read and check what `save_state` wrote; None where there is nothing, or only half of it.

    Raises:
        RunError: damaged, a key missing, or a value that cannot be.
    """
    if not files.progress.exists():
        return None
    progress = read_json(files.progress, RunError)
    tensors = read_tensors(files.state)
    _check_progress(files, stages, progress, tensors)
    # A crash fell between the two files: that part is done again from the start.
    return SavedState(progress, tensors) if int(tensors["step"]) == progress["total"] else None


def restore(
    files: RunFiles,
    saved: SavedState,
    compressor: nn.Module,
    objective: Loss,
    optimizer: torch.optim.Optimizer,
    trained: Mapping[str, nn.Parameter],
) -> None:
    """Take up a state, in place.

    Raises:
        RunError: tensors of other shapes, moments that are missing, or an objective's state that
            is none.
    """
    for name, each in _held(compressor, objective).items():
        if name not in trained:
            found = saved.tensors.get(f"held.{name}")
            if found is None or found.shape != each.shape:
                raise RunError(
                    f"{files.state}: {name}: expected shape {tuple(each.shape)}, got "
                    f"{'nothing' if found is None else tuple(found.shape)}: {_begin_anew(files)}"
                )
            each.copy_(found)
    load_training_state(saved.tensors, optimizer, list(trained.values()))
    for name, parameter in trained.items():
        moments = optimizer.state[parameter]
        shapes = {key: tuple(moments[key].shape) for key in MOMENTS if key in moments}
        if moments and shapes != dict.fromkeys(MOMENTS, tuple(parameter.shape)):
            raise RunError(
                f"{files.state}: {name}: expected moments of shape {tuple(parameter.shape)}, "
                f"got {shapes or 'none'}: {_begin_anew(files)}"
            )
    try:
        objective.restore(saved.progress["objective"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{files.progress}: objective: expected opened gates and smoothed numbers, "
            f"got {error!r}: {_begin_anew(files)}"
        ) from error


def _held(compressor: nn.Module, objective: Loss) -> dict[str, Tensor]:
    """Everything that a training holds: parameters, buffers, and parts that a stage leaves."""
    return {**compressor.state_dict(), **objective.state_dict(prefix="heads.")}


def _begin_anew(files: RunFiles) -> str:
    return f"delete {files.progress.parent} to train from the first step"


def _check_progress(
    files: RunFiles,
    stages: Sequence[StageConfig],
    progress: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
) -> None:
    """Refuse what no saved state says, before anything of the run is touched.

    Raises:
        RunError: a key missing, or a value that cannot be.
    """

    def number(value: Any, least: float = -math.inf) -> bool:
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        return plain and math.isfinite(value) and value >= least

    def whole(value: Any, most: int) -> bool:
        return number(value, 0) and isinstance(value, int) and value <= most

    stage, objective = progress.get("stage"), progress.get("objective")
    known = isinstance(stage, int) and whole(stage, len(stages) - 1)
    steps = stages[stage].steps if known and isinstance(stage, int) else 0
    smoothed = progress.get("smoothed")
    fits = {
        "stage": known,
        "step": whole(progress.get("step"), steps),
        "total": whole(progress.get("total"), sum(each.steps for each in stages)),
        "smoothed": "smoothed" in progress and (smoothed is None or number(smoothed)),
        "best": number(progress.get("best")),
        "seconds": number(progress.get("seconds"), 0),
        "objective": isinstance(objective, dict),
    }
    wrong = [key for key, fit in fits.items() if not fit]
    if wrong:
        got = repr(progress.get(wrong[0], "nothing"))[:60]
        raise RunError(
            mismatch(files.progress, wrong[0], "what a training saves", got)
            + f": {_begin_anew(files)}"
        )
    if "step" not in tensors or tensors["step"].numel() != 1:
        raise RunError(
            mismatch(files.state, "step", "one number", "none") + f": {_begin_anew(files)}"
        )
