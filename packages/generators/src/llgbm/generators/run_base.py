"""The base model that a run's teachers were taught on, and no other of its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.fingerprint import base_fingerprint


def run_base(
    where: str | Path,
    name: str,
    fingerprint: str,
    model: nn.Module | None = None,
    tokenizer: Any = None,
    device: torch.device | str | None = None,
) -> tuple[Any, Any]:
    """Return the base model `name` and its tokenizer, after checking its weights.

    Args:
        where: what records the fingerprint, for the error.
        name: given to `load_base_model`.
        fingerprint: sha256 of the weights that `where` was made with.
        model: the loaded base; loaded here where None.
        tokenizer: of the base.
        device: where it is loaded; see `load_base_model`.

    Raises:
        RunError: other weights have that name now, or another dtype.
        ModelError: it cannot be loaded.
    """
    if model is None:
        model, tokenizer = load_base_model(name, device=device)
    found = base_fingerprint(model)
    if found != fingerprint:
        expected, got = f"{name} ({fingerprint[:12]})", f"{name} ({found[:12]})"
        raise RunError(mismatch(where, "base model", expected, got))
    return model, tokenizer
