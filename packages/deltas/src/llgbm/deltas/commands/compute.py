"""`llgbm-deltas compute`: the delta cache of a folder of adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import nn

from llgbm.deltas.adapter_folders import find_teachers
from llgbm.deltas.base_models import DEFAULT_MODEL, load_base_model
from llgbm.deltas.cache_contents import read_contents
from llgbm.deltas.compute import compute_cache
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import SettingError, require_at_least
from llgbm.deltas.peft_format import read_adapter_info
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.processes import launched_processes
from llgbm.deltas.recommended import several_layers
from llgbm.deltas.statistics import delta_statistics

DEFAULT_PROBES = "generic"


@dataclass(frozen=True)
class DeltaChoice:
    """What is read off the hidden states.

    Args:
        layers: indices into the hidden states, -1 the last one. Where none is given: those after
            a third, two thirds and all of the layers; for the mean over probes the last one, as
            Delta Activations has it.
        pooling: over tokens: the last one, or the mean.
        aggregation: over probes: none, or the mean.
    """

    layers: tuple[int, ...] = ()
    pooling: Literal["last_token", "mean"] = "last_token"
    aggregation: Literal["mean", "per_probe"] = "per_probe"

    def spec(self, model: nn.Module) -> DeltaSpec:
        """The DeltaSpec for a model."""
        default = several_layers(model) if self.aggregation == "per_probe" else (-1,)
        return DeltaSpec(self.layers or default, self.pooling, self.aggregation)


@dataclass(frozen=True)
class ComputeConfig:
    """Compute the deltas of all adapters in a folder; what is cached is not computed again.

    Full models in the folder (config.json with model*.safetensors) count as teachers too. Under
    `accelerate launch` the processes share the work.

    Args:
        adapters: folder, searched through for PEFT adapters and for models tuned from the base.
        out: folder of the cache; ADAPTERS/deltas where not given.
        base_model: `smollm2-135m`, a local folder or a hub id; what the first adapter names
            where not given.
        probes: `generic` (5 probes), `generic-10`, `generic-20`, `math`, `code`, `commonsense` or
            a .txt file, one probe a line; several joined by +, such as `generic+math`.
        deltas: what is read off the hidden states.
        adapters_per_forward: adapters of one forward.
        rebuild: begin the cache anew.
    """

    adapters: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    base_model: str = ""
    probes: str = DEFAULT_PROBES
    deltas: DeltaChoice = field(default_factory=DeltaChoice)
    adapters_per_forward: int = 8
    rebuild: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, adapters_per_forward=self.adapters_per_forward)


def compute(config: ComputeConfig) -> None:
    """Fill the cache and print its statistics; the processes of an `accelerate launch` share it."""
    with launched_processes() as processes:
        probes = named_probes(config.probes)
        given = Path(config.base_model).expanduser() if config.base_model else None
        base = given if given is not None and given.is_dir() else None
        adapters, models = find_teachers(config.adapters, base)
        name = config.base_model or base_named_by(adapters, models)
        model, _ = processes.on_each(lambda: load_base_model(name, device=processes.device))
        out = config.out or config.adapters / "deltas"
        summary = compute_cache(
            model,
            adapters,
            out,
            probes,
            config.deltas.spec(model),
            name,
            config.adapters_per_forward,
            config.rebuild,
            models=models,
            processes=processes,
        )
        if processes.is_main:
            # Not of what the folder held once and the cache still does.
            ids = sorted([*summary.computed, *summary.reused])
            deltas = read_contents(out).deltas(ids) if ids else torch.empty(0, 1)
            print(delta_statistics(ids, deltas, summary.broken).table())
            counted = f"{len(summary.computed)} computed, {len(summary.reused)} reused"
            shared = f" by {processes.count} processes" if processes.count > 1 else ""
            print(f"{out}: {counted}{shared}")


def base_named_by(adapters: Mapping[str, Path], models: Mapping[str, Path]) -> str:
    """Name the base that the first adapter was made for; full models name none.

    Raises:
        SettingError: there is no adapter.
    """
    if not adapters:
        first = next(iter(models.values()))
        raise SettingError(
            f"base_model: expected the model that {first} was tuned from, got none: add "
            "--base-model"
        )
    return read_adapter_info(next(iter(adapters.values()))).base_model_name or DEFAULT_MODEL
