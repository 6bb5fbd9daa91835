"""Optional packages, imported where they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from llgbm.deltas.errors import SettingError


def optional_module(name: str, needed_by: str, extra: str) -> Any:
    """Import a module of an optional package.

    Args:
        name: of the module.
        needed_by: begins the message, such as "fronts need moocore".
        extra: of llgbm-generators that brings it.

    Raises:
        SettingError: it is not installed; says the pip line.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise SettingError(f"{needed_by}: pip install 'llgbm-generators[{extra}]'") from error


def quantizers() -> Any:
    """Import vector_quantize_pytorch, or raise SettingError."""
    needed_by = "bottleneck: codebooks need vector-quantize-pytorch"
    return optional_module("vector_quantize_pytorch", needed_by, "vae")


def flows() -> Any:
    """Import zuko, or raise SettingError."""
    return optional_module("zuko", "prior: flow needs zuko", "vae").flows


def fronts() -> Any:
    """Import moocore, or raise SettingError."""
    return optional_module("moocore", "fronts need moocore", "sideways")


def cma_es(extra: str) -> Any:
    """Import cmaes, which more than one extra brings, or raise SettingError."""
    return optional_module("cmaes", "CMA-ES needs cmaes", extra)
