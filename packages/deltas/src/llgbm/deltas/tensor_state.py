"""States that a run saves for itself: flat tensors in safetensors, errors that name the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from llgbm.deltas.errors import RunError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        RunError: missing, damaged or no file.
    """
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise RunError(f"{path}: not found") from error
    except OSError as error:  # a folder, or one that may not be read
        raise RunError(f"{path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise RunError(
            f"{path}: not a whole safetensors file ({error}); delete it to redo that part"
        ) from error


def training_state(
    optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Parameters and their optimiser state, by position."""
    tensors: dict[str, Tensor] = {}
    for index, parameter in enumerate(parameters):
        tensors[f"parameter.{index}"] = parameter.detach().contiguous()
        for name, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{index}.{name}"] = value
    return tensors


def load_training_state(
    tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor]
) -> None:
    """Take up what `training_state` gave, in place.

    Raises:
        RunError: other parameters than these.
    """
    fused = bool(optimizer.defaults.get("fused"))
    for index, parameter in enumerate(parameters):
        saved = tensors.get(f"parameter.{index}")
        if saved is None or saved.shape != parameter.shape:
            got = "nothing" if saved is None else tuple(saved.shape)
            raise RunError(
                f"saved state: parameter {index}: "
                f"expected shape {tuple(parameter.shape)}, got {got}"
            )
        with torch.no_grad():
            parameter.copy_(saved)
        prefix = f"optimizer.{index}."
        optimizer.state[parameter] = {
            name.removeprefix(prefix): value.to(
                # AdamW keeps its step count on the CPU unless it is fused.
                "cpu" if name.endswith(".step") and not fused else parameter.device,
                copy=True,
            )
            for name, value in tensors.items()
            if name.startswith(prefix)
        }
