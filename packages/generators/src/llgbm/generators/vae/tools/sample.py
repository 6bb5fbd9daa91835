"""`llgbm sample`: several adapters for one text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.generators.conditions import ConditionBatch
from llgbm.generators.losses.update_cosine import update_cosine
from llgbm.generators.vae.tools.latents import NamedLatents
from llgbm.generators.vae.tools.series import drop_rest, series


@dataclass(frozen=True)
class SampleConfig:
    """Draw adapters from p(z | text).

    Args:
        text: what they are for, in a sentence.
        vae: run folder, or the folder of one trained VAE.
        out: folder that gets one PEFT folder each, sample_000 and on.
        n: how many.
        seed: of the draws.
        overwrite: replace what is there.
    """

    text: Annotated[str, tyro.conf.Positional]
    vae: Path = Path("runs/demo")
    out: Path = Path("samples")
    n: int = 4
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_at_least(1, n=self.n)
        require_seed(self.seed)


def sample(config: SampleConfig) -> list[Path]:
    """Write the adapters; returns their folders.

    Raises:
        RunError: no VAE, or no text.
        AdapterError: a folder exists.
    """
    folders = series(config.out, "sample", config.n, config.overwrite)
    named = NamedLatents(config.vae)
    one = named.condition(config.text)
    many = ConditionBatch(one.embeddings.expand(config.n, -1, -1), one.mask.expand(config.n, -1))
    z = named.vae.sample(many, torch.Generator().manual_seed(config.seed))
    with torch.no_grad():
        weights = named.vae.generate_from_z(z)
        centre = named.vae.write(one)
        cosines = update_cosine(weights, centre.select([0] * config.n)).tolist()
    named.write(weights, folders)
    drop_rest(config.out, "sample", folders)
    for folder, cosine in zip(folders, cosines, strict=True):
        print(f"{folder}: cosine {cosine:.3f} with the adapter at the centre")
    return folders
