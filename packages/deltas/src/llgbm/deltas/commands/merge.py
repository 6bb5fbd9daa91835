"""`llgbm-deltas merge`: one adapter from several."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llgbm.deltas.errors import AdapterError, require_at_least
from llgbm.deltas.merge_folders import merge_folders
from llgbm.deltas.merging import MergeMethod, require_density
from llgbm.deltas.peft_format import check_output


@dataclass(frozen=True)
class MergeConfig:
    """Merge adapters of one base model in the space of their updates.

    Args:
        adapters: two or more PEFT folders of the same modules; ranks may differ.
        out: folder of the merged adapter.
        method: average (exact, truncated to rank r), ties or dare.
        coefficients: one number an adapter; equal shares where not given.
        r: rank of the result; the largest among the adapters where 0.
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
        require_density(self.density)


def merge(config: MergeConfig) -> None:
    """Write the merged adapter."""
    check_output(config.out, config.overwrite)
    if len(config.adapters) < 2:
        raise AdapterError(f"merge: expected at least 2 adapters, got {len(config.adapters)}")
    spec = merge_folders(
        config.adapters,
        config.out,
        config.method,
        config.coefficients or None,
        config.r or None,
        config.density,
        config.overwrite,
    )
    print(f"{config.out}: {len(config.adapters)} adapters merged ({config.method}), r={spec.r}")
