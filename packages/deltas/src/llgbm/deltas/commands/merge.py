"""`llgbm-deltas merge`: one adapter from several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llgbm.deltas.errors import AdapterError, SettingError, require_at_least
from llgbm.deltas.merging import MergeMethod
from llgbm.deltas.merging import merge as merge_weights
from llgbm.deltas.peft_format import check_output, load_adapter, read_adapter_info, save_adapter
from llgbm.deltas.weights import LoRAWeights


@dataclass(frozen=True)
class MergeConfig:
    """Merge adapters of one base model in the space of their updates.

    Args:
        adapters: two or more PEFT folders of the same modules and rank.
        out: folder of the merged adapter.
        method: average (exact, truncated to rank r), ties or dare.
        coefficients: one number an adapter; equal shares where not given.
        r: rank of the result; the adapters' own where 0.
        density: share of entries that ties and dare keep.
        overwrite: replace `out` where it holds an adapter.
    """

    adapters: Annotated[tuple[Path, ...], tyro.conf.Positional]
    out: Path
    method: MergeMethod = "average"
    coefficients: tuple[float, ...] = ()
    r: int = 0
    density: float = 0.5
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_at_least(0, r=self.r)
        if not 0 < self.density <= 1:
            raise SettingError(f"density: expected above 0 and at most 1, got {self.density:g}")


def merge(config: MergeConfig) -> None:
    """Write the merged adapter."""
    check_output(config.out, config.overwrite)
    if len(config.adapters) < 2:
        raise AdapterError(f"merge: expected at least 2 adapters, got {len(config.adapters)}")
    if config.coefficients and len(config.coefficients) != len(config.adapters):
        raise AdapterError(
            f"coefficients: expected {len(config.adapters)}, got {len(config.coefficients)}"
        )
    infos = [read_adapter_info(path) for path in config.adapters]
    prints = {info.base_fingerprint for info in infos if info.base_fingerprint}
    if len(prints) > 1:
        raise AdapterError(f"merge: expected adapters of one base model, got {len(prints)}")
    together = LoRAWeights.concatenate([load_adapter(path) for path in config.adapters])
    most = min(min(m.in_features, m.out_features) for m in together.spec.modules)
    if config.r > most:
        raise SettingError(f"r: expected at most {most}, the smallest side, got {config.r}")
    merged = merge_weights(
        together, config.coefficients or None, config.method, config.r or None, config.density
    )
    print_name = next((info.base_model_name for info in infos if info.base_model_name), None)
    save_adapter(merged, config.out, print_name, next(iter(prints), None))
    print(
        f"{config.out}: {len(config.adapters)} adapters merged ({config.method}), r={merged.spec.r}"
    )
