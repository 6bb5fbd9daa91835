"""Hypernetworks that write LoRA adapters from text, trained by behavioural matching."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llgbm.generators.evaluation.results import Results as Results
    from llgbm.generators.generator import GeneratorConfig as GeneratorConfig
    from llgbm.generators.generator import LoRAGenerator as LoRAGenerator
    from llgbm.generators.text_encoder import PretrainedTextEncoder as PretrainedTextEncoder

# Looked up on first use, so that a command's --help does not wait for torch.
_HOMES = {
    "GeneratorConfig": "generator",
    "LoRAGenerator": "generator",
    "PretrainedTextEncoder": "text_encoder",
    "Results": "evaluation.results",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
