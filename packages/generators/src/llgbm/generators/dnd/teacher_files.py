"""DnD's teachers: adapters as bare safetensors, without a config."""

from __future__ import annotations

from pathlib import Path

from llgbm.deltas.peft_format import load_adapter_tensors
from llgbm.deltas.weights import LoRAWeights


def published_alpha(r: int) -> float:
    """Alpha of DnD's teachers: twice the rank (r 8 with 16, r 16 with 32)."""
    return 2.0 * r


def load_dnd_teacher(path: Path | str, lora_alpha: float | None = None) -> LoRAWeights:
    """Read one teacher, such as `ARC-c/250.safetensors`.

    Args:
        path: safetensors with PEFT's keys; the rank follows from the shapes.
        lora_alpha: of the training; `published_alpha` of the rank where None.

    Returns:
        One adapter (n = 1), float32.

    Raises:
        AdapterError: a damaged file, foreign keys, shapes that do not fit, NaN or Inf.
    """
    return load_adapter_tensors(path, published_alpha if lora_alpha is None else lora_alpha)
