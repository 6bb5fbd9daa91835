"""One checkpoint of any supported format: its tensors, and what else the file says."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json

SAFETENSORS, PICKLED, ADAPTER = ".safetensors", (".pt", ".pth"), "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
# What an adapter's tensors mean.
PEFT_SETTINGS = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
# Where trainers put the weights inside a larger file.
STATE_KEYS = ("model_state_dict", "state_dict", "model")
NUMBER_KEYS = ("metrics",), ("hyperparameters", "config", "hparams")


@dataclass(frozen=True)
class CheckpointFile:
    """What a file holds.

    Attributes:
        tensors: floating-point ones by key.
        metrics: numbers that the file itself says were measured.
        hyperparameters: numbers that the file itself says it was trained with.
    """

    tensors: Mapping[str, Tensor]
    metrics: Mapping[str, float] = field(default_factory=dict)
    hyperparameters: Mapping[str, float] = field(default_factory=dict)


def is_checkpoint(path: Path) -> bool:
    """Whether a path looks like one checkpoint."""
    if path.is_dir():
        return (path / ADAPTER).exists()
    return path.suffix in (SAFETENSORS, *PICKLED) and path.name != ADAPTER


def peft_config(paths: Sequence[Path]) -> dict[str, Any] | None:
    """The adapter_config.json of PEFT folders; None where some are none, or have other settings.

    Args:
        paths: of checkpoints.

    Raises:
        RunError: a file that is no JSON.
    """
    configs = []
    for path in paths:
        file = path / ADAPTER_CONFIG
        if not (path.is_dir() and file.exists()):
            return None
        configs.append(read_json(file, RunError))
    # What is beside the settings, such as notes of who made it, may differ.
    alike = {json.dumps({key: each.get(key) for key in PEFT_SETTINGS}) for each in configs}
    return configs[0] if len(alike) == 1 else None


def read_checkpoint(path: Path) -> CheckpointFile:
    """Read `.safetensors`, a PEFT folder, or `.pt`/`.pth` without running any code in it.

    Raises:
        RunError: missing, damaged, a pickle that holds more than tensors, numbers and words, or no
            floating-point tensor.
    """
    if path.is_dir():
        path = path / ADAPTER
    found = _pickled(path) if path.suffix in PICKLED else CheckpointFile(_safetensors(path))
    if not found.tensors:
        raise RunError(mismatch(path, "tensors", "at least one of floating point", "none"))
    return found


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return _floating(load_file(path))
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: not a whole safetensors file ({error})") from error


def _pickled(path: Path) -> CheckpointFile:
    try:
        with warnings.catch_warnings():
            # Of files that are no checkpoints: what is wrong is told below.
            warnings.simplefilter("ignore", UserWarning)
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path}: expected tensors, numbers and words alone, got a pickle with other objects, "
            "which may run code: save its state dict"
        ) from error
    except Exception as error:  # a damaged file stops its reader anywhere
        raise RunError(f"{path}: not a whole torch file ({error!r})") from error
    if not isinstance(content, Mapping):
        raise RunError(mismatch(path, "content", "a dictionary", type(content).__name__))
    inner = next((content[k] for k in STATE_KEYS if isinstance(content.get(k), Mapping)), content)
    metrics, numbers = (
        next((_numbers(content[k]) for k in keys if isinstance(content.get(k), Mapping)), {})
        for keys in NUMBER_KEYS
    )
    return CheckpointFile(_floating(inner), metrics, numbers)


def _floating(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    return {
        str(key): value.detach()
        for key, value in content.items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel()
    }


def _numbers(content: Mapping[Any, Any]) -> dict[str, float]:
    """Those values that are numbers; words are not."""
    return {
        str(key): float(value)
        for key, value in content.items()
        if isinstance(value, (int, float)) or (isinstance(value, Tensor) and value.numel() == 1)
    }
