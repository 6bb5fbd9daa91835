"""A saved delta: one array in a .npy or .safetensors file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from llgbm.deltas.errors import CacheError, mismatch

SUFFIXES = (".npy", ".safetensors")


def load_delta_file(path: Path) -> Tensor:
    """Read a delta.

    Args:
        path: .npy without pickled objects, or .safetensors with one tensor.

    Returns:
        Its values as float32, in its own shape.

    Raises:
        CacheError: no such file, another kind of file, several tensors, or NaN or Inf.
    """
    if path.suffix not in SUFFIXES:
        raise CacheError(mismatch(path, "suffix", " or ".join(SUFFIXES), repr(path.suffix)))
    if not path.is_file():
        raise CacheError(f"{path}: not found")
    delta = _from_numpy(path) if path.suffix == ".npy" else _from_safetensors(path)
    if not delta.is_floating_point():
        raise CacheError(mismatch(path, "dtype", "floating point", delta.dtype))
    delta = delta.float()
    if not torch.isfinite(delta).all():
        raise CacheError(mismatch(path, "values", "finite ones", "NaN or Inf"))
    return delta


def _from_numpy(path: Path) -> Tensor:
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except (ValueError, EOFError, TypeError) as error:
        raise CacheError(mismatch(path, "content", "an array of numbers", error)) from error


def _from_safetensors(path: Path) -> Tensor:
    try:
        with safe_open(path, framework="pt") as opened:
            names = list(opened.keys())
            if len(names) != 1:
                raise CacheError(mismatch(path, "tensors", "one", names))
            return opened.get_tensor(names[0])
    except SafetensorError as error:
        raise CacheError(mismatch(path, "content", "a whole safetensors file", error)) from error
