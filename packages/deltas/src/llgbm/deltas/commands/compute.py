"""`llgbm-deltas compute`: the delta cache of a folder of adapters."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from llgbm.deltas.adapter_folders import find_adapters
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.commands.cached import print_statistics
from llgbm.deltas.compute import compute_cache
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import require_at_least
from llgbm.deltas.peft_format import read_adapter_info
from llgbm.deltas.probe_names import named_probes


@dataclass(frozen=True)
class ComputeConfig:
    """Compute the deltas of all adapters in a folder; what is cached is not computed again.

    Args:
        adapters: folder, searched through for PEFT adapters.
        out: folder of the cache; ADAPTERS/deltas where not given.
        base_model: `smollm2-135m`, a local folder or a hub id; what the first adapter names
            where not given.
        probes: `generic`, `math`, `code`, `commonsense` or a .txt file, one probe a line.
        deltas: what is read off the hidden states.
        adapters_per_forward: adapters of one forward.
        rebuild: begin the cache anew.
    """

    adapters: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    base_model: str = ""
    probes: str = "generic"
    deltas: DeltaSpec = field(default_factory=lambda: DeltaSpec(aggregation="per_probe"))
    adapters_per_forward: int = 8
    rebuild: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, adapters_per_forward=self.adapters_per_forward)


def compute(config: ComputeConfig) -> None:
    """Fill the cache and print its statistics."""
    adapters = find_adapters(config.adapters)
    probes = named_probes(config.probes)
    name = config.base_model
    if not name:
        name = read_adapter_info(next(iter(adapters.values()))).base_model_name or "smollm2-135m"
    model, _ = load_base_model(name)
    out = config.out or config.adapters / "deltas"
    summary = compute_cache(
        model,
        adapters,
        out,
        probes,
        config.deltas,
        name,
        config.adapters_per_forward,
        config.rebuild,
    )
    print_statistics(out, summary.broken)
    print(f"{out}: {len(summary.computed)} computed, {len(summary.reused)} reused")
