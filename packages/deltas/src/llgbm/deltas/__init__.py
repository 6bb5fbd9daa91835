"""Behavioural deltas of LoRA adapters: one batched forward, a cache, retrieval, merging."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llgbm.deltas.base_models import load_base_model as load_base_model
    from llgbm.deltas.cache import DeltaCache as DeltaCache
    from llgbm.deltas.delta import DeltaSpec as DeltaSpec
    from llgbm.deltas.delta import compute_base_activation as compute_base_activation
    from llgbm.deltas.delta import compute_delta as compute_delta
    from llgbm.deltas.functional import FunctionalLoRA as FunctionalLoRA
    from llgbm.deltas.merging import merge as merge
    from llgbm.deltas.peft_format import load_adapter as load_adapter
    from llgbm.deltas.peft_format import save_adapter as save_adapter
    from llgbm.deltas.probes import ProbeSet as ProbeSet
    from llgbm.deltas.probes import create_domain_probes as create_domain_probes
    from llgbm.deltas.probes import create_generic_probes as create_generic_probes
    from llgbm.deltas.retrieval import retrieve as retrieve
    from llgbm.deltas.spec import LoRASpec as LoRASpec
    from llgbm.deltas.tasks import load_task as load_task
    from llgbm.deltas.weights import LoRAWeights as LoRAWeights

# Where each public name lives: looked up on first use, so that a command's --help does not
# wait for torch.
_HOMES = {
    "DeltaCache": "cache",
    "DeltaSpec": "delta",
    "FunctionalLoRA": "functional",
    "LoRASpec": "spec",
    "LoRAWeights": "weights",
    "ProbeSet": "probes",
    "compute_base_activation": "delta",
    "compute_delta": "delta",
    "create_domain_probes": "probes",
    "create_generic_probes": "probes",
    "load_adapter": "peft_format",
    "load_base_model": "base_models",
    "load_task": "tasks",
    "merge": "merging",
    "retrieve": "retrieval",
    "save_adapter": "peft_format",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
