"""Which backend runs: an argument, a context manager, or a written rule.

The rule of `auto`: on a CPU, torch. On a GPU with Triton, `triton` (the base product by cuBLAS, the
adapters' part by kernels of our own) for float32, bfloat16 and float16 at ranks up to 128, else
torch. `triton_fused` runs only when asked for, until it has been measured to be faster.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Literal

import torch

Backend = Literal["auto", "torch", "triton", "triton_fused"]
BACKENDS = ("auto", "torch", "triton", "triton_fused")
LARGEST_RANK = 128

_TRITON_FOUND = find_spec("triton") is not None
# Of the process, not of a thread: torch.compile reads it, and backward has a thread of its own.
_override: Backend = "auto"


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Within the block, calls with `backend="auto"` use `backend`, in all threads.

    Raises:
        ValueError: an unknown name.
    """
    global _override
    _check_name(backend)
    before, _override = _override, backend
    try:
        yield
    finally:
        _override = before


def choose_backend(backend: Backend, device: torch.device, dtype: torch.dtype, r: int) -> str:
    """Resolve a call's backend: its argument, else the context, else the rule above.

    Args:
        backend: the argument.
        device: of the activations.
        dtype: of the activations.
        r: rank.

    Raises:
        ValueError: an unknown name, or Triton where it cannot run.
    """
    _check_name(backend)
    if backend == "auto":
        backend = _override
    if backend == "auto":
        fits = dtype != torch.float64 and r <= LARGEST_RANK
        return "triton" if device.type == "cuda" and fits and has_triton() else "torch"
    if backend != "torch":
        _check_triton(device, dtype, r)
    return backend


def has_triton() -> bool:
    """Whether Triton is installed; it is imported only when a kernel first runs."""
    return _TRITON_FOUND


def interpreting() -> bool:
    """Whether Triton runs kernels on CPU tensors (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


def _check_name(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {BACKENDS}, got {backend!r}")


def _check_triton(device: torch.device, dtype: torch.dtype, r: int) -> None:
    if not has_triton():
        raise ValueError("backend: expected Triton to be installed, got none: pip install triton")
    if device.type == "cpu" and not interpreting():
        raise ValueError(
            "backend: expected a GPU tensor for 'triton', got one on the CPU: "
            "set TRITON_INTERPRET=1 before the first import to interpret kernels"
        )
    if dtype == torch.float64:
        raise ValueError("x: expected float32, bfloat16 or float16 for triton, got float64")
    if r > LARGEST_RANK:
        raise ValueError(f"lora_A: expected a rank up to {LARGEST_RANK} for triton, got {r}")
