"""`llgbm-deltas project`: the deltas of a cache in a smaller width, for plots and other tools."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from torch.nn import functional as F

from llgbm.deltas.atomic import save_tensors
from llgbm.deltas.by_layer import directions
from llgbm.deltas.commands.cached import read_cache
from llgbm.deltas.errors import SettingError, mismatch, require_at_least, require_seed
from llgbm.deltas.projection import project as projected


@dataclass(frozen=True)
class ProjectConfig:
    """Project the deltas of a cache by fixed random signs; cosines within a base are kept.

    All layers weigh alike, as in `retrieve`. Two base models stay incomparable: `meaning` is for
    them.

    Args:
        cache: its folder.
        out: .safetensors file: `deltas` [N, dimension] float32; ids, seed and dimension in its
            metadata.
        dimension: width of the result.
        seed: of the signs; only deltas of one seed compare.
    """

    cache: Annotated[Path, tyro.conf.Positional]
    out: Path
    dimension: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, dimension=self.dimension)
        require_seed(self.seed)
        if self.out.suffix != ".safetensors":
            raise SettingError(mismatch(self.out, "suffix", ".safetensors", repr(self.out.suffix)))


def project(config: ProjectConfig) -> None:
    """Write the file and print how well cosines are kept."""
    ids, deltas = read_cache(config.cache)
    flat = directions(deltas).flatten(1)
    small = projected(flat, config.dimension, config.seed)
    metadata = {
        "ids": json.dumps(ids),
        "dimension": str(config.dimension),
        "seed": str(config.seed),
    }
    save_tensors(config.out, {"deltas": small}, metadata)
    before, after = (F.normalize(part, dim=1) for part in (flat, small))
    error = (before @ before.mT - after @ after.mT).abs().max()
    print(
        f"{config.out}: {len(ids)} deltas, {flat.shape[1]} numbers to {config.dimension}, "
        f"largest error of a cosine {error:.3f}"
    )
