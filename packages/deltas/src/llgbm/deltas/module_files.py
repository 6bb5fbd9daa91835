"""A trained module as two files, tensors and description, that are checked against each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from llgbm.deltas.atomic import save_tensors, write_json
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.json_files import read_json
from llgbm.deltas.tensor_state import read_tensors

CONFIG = "config.json"
# Fingerprint of the description, in the header of the tensors: tells two halves of two
# modules apart where a crash fell between the two files.
HEADER_KEY = "llgbm_generator"


def write_module(
    module: nn.Module,
    folder: Path,
    file: str,
    description: Mapping[str, Any],
    metadata: Mapping[str, Any],
) -> None:
    """Write FILE and config.json, each atomically, the tensors first.

    Args:
        module: whose state is written.
        folder: made where missing; other files in it stay.
        file: name of the tensors' file.
        description: JSON values that the module can be built from.
        metadata: JSON values that travel with it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    save_tensors(folder / file, state, {HEADER_KEY: text_fingerprint(dict(description))})
    write_json(folder / CONFIG, {**description, "metadata": dict(metadata)})


def read_module_config(folder: Path, command: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the description and the metadata of a written module.

    Args:
        folder: of the module.
        command: that makes one, for the error.

    Raises:
        RunError: missing or malformed.
    """
    file = folder / CONFIG
    if not file.exists():
        raise RunError(f"{file}: not found: run `{command}` first")
    content = read_json(file, RunError)
    metadata = content.pop("metadata", {})
    if not isinstance(metadata, dict):
        raise RunError(mismatch(file, "metadata", "an object", type(metadata).__name__))
    return content, metadata


def base_of(metadata: Mapping[str, Any], folder: Path) -> tuple[str, str]:
    """Return name and fingerprint of the base model that a module writes adapters for.

    Raises:
        RunError: the module was saved without them.
    """
    found = metadata.get("base_model"), metadata.get("base_fingerprint")
    for key, value in zip(("base_model", "base_fingerprint"), found, strict=True):
        if not isinstance(value, str):
            raise RunError(mismatch(folder / CONFIG, f"metadata: {key}", "a string", repr(value)))
    return str(found[0]), str(found[1])


def check_pair(file: Path, description: Mapping[str, Any]) -> None:
    """Raise RunError unless `file` was written with `description`.

    Before a module is built: sizes that nobody wrote build none.

    Args:
        file: tensors that `write_module` wrote.
        description: of config.json beside it.

    Raises:
        RunError: missing, damaged or half-written.
    """
    try:
        with safe_open(file, framework="pt") as opened:
            header = (opened.metadata() or {}).get(HEADER_KEY)
    except FileNotFoundError as error:
        raise RunError(f"{file}: not found") from error
    except OSError as error:  # a folder, or one that may not be read
        raise RunError(f"{file}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise RunError(f"{file}: not a whole safetensors file ({error})") from error
    fingerprint = text_fingerprint(dict(description))
    if header != fingerprint:
        raise RunError(
            f"{file}: {HEADER_KEY}: expected {fingerprint[:12]} as in {CONFIG}, got "
            f"{str(header)[:12]}: the two files belong to different generators"
        )


def fill_module(module: nn.Module, file: Path) -> None:
    """Take over the tensors of `file` after checking every one.

    Args:
        module: built from the description beside `file`; see `check_pair`.
        file: tensors that `write_module` wrote.

    Raises:
        RunError: missing or damaged, keys or shapes that do not fit, NaN or Inf.
    """
    tensors, state = read_tensors(file), module.state_dict()
    missing, extra = sorted(set(state) - set(tensors)), sorted(set(tensors) - set(state))
    if missing or extra:
        raise RunError(f"{file}: tensors: missing {missing[:3]}, extra {extra[:3]}")
    for name, expected in state.items():
        got = tensors[name]
        if got.shape != expected.shape or got.dtype != expected.dtype:
            wanted = f"{expected.dtype} {tuple(expected.shape)}"
            raise RunError(mismatch(file, name, wanted, f"{got.dtype} {tuple(got.shape)}"))
        if not torch.isfinite(got).all():
            raise RunError(f"{file}: {name}: expected finite values, got NaN or Inf")
    module.load_state_dict(tensors)
