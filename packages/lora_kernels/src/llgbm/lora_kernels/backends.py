"""Which backend runs: an argument, a context manager, or torch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch

Backend = Literal["auto", "torch", "triton"]
BACKENDS = ("auto", "torch", "triton")

_override: ContextVar[Backend] = ContextVar("llgbm_lora_kernels_backend", default="auto")


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Within the block, calls with `backend="auto"` use `backend`.

    Raises:
        ValueError: an unknown name.
    """
    _check_name(backend)
    token = _override.set(backend)
    try:
        yield
    finally:
        _override.reset(token)


def choose_backend(backend: Backend, device: torch.device) -> Literal["torch", "triton"]:
    """Resolve a call's backend: its argument, else the context, else torch.

    Raises:
        ValueError: an unknown name, or Triton where it cannot run.
    """
    _check_name(backend)
    if backend == "auto":
        backend = _override.get()
    if backend == "triton":
        _check_triton(device)
        return "triton"
    # The plain kernels have not been timed on a GPU: torch's batched GEMMs are the safe choice.
    return "torch"


@cache
def has_triton() -> bool:
    """Whether Triton is installed; it is imported only when a kernel first runs."""
    return find_spec("triton") is not None


def interpreting() -> bool:
    """Whether Triton runs kernels on CPU tensors (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def _check_name(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {BACKENDS}, got {backend!r}")


def _check_triton(device: torch.device) -> None:
    if not has_triton():
        raise ValueError("backend: expected Triton to be installed, got none: pip install triton")
    if device.type == "cpu" and not interpreting():
        raise ValueError(
            "backend: expected a GPU tensor for 'triton', got one on the CPU: "
            "set TRITON_INTERPRET=1 before the first import to interpret kernels"
        )
