"""`llgbm interpolate`: adapters on the way from one to another, through the latent space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from llgbm.deltas.errors import require_at_least
from llgbm.generators.vae.tools.latents import NamedLatents
from llgbm.generators.vae.tools.series import drop_rest, series


@dataclass(frozen=True)
class InterpolateConfig:
    """Write adapters on the straight line between two latents.

    Args:
        start: folder of an adapter, or a sentence.
        end: likewise.
        vae: run folder, or the folder of one trained VAE.
        out: folder that gets one PEFT folder each, step_000 and on.
        steps: adapters, both ends among them.
        even: steps change the updates by equal lengths, where those of equal length in the latent
            may change next to nothing and then everything at once.
        overwrite: replace what is there.
    """

    start: Annotated[str, tyro.conf.Positional]
    end: Annotated[str, tyro.conf.Positional]
    vae: Path = Path("runs/demo")
    out: Path = Path("interpolation")
    steps: int = 5
    even: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_at_least(2, steps=self.steps)


def interpolate(config: InterpolateConfig) -> list[Path]:
    """Write the adapters; returns their folders.

    Raises:
        RunError: no VAE, or a name that is neither a text nor an adapter.
        AdapterError: an adapter that cannot be read, or a folder that exists.
    """
    folders = series(config.out, "step", config.steps, config.overwrite)
    named = NamedLatents(config.vae)
    start, end = named.latent(config.start), named.latent(config.end)
    shares = [place / (config.steps - 1) for place in range(config.steps)]
    named.write(named.vae.interpolate(start, end, shares, config.even), folders)
    drop_rest(config.out, "step", folders)
    for folder, share in zip(folders, shares, strict=True):
        print(f"{folder}: {share:.0%} of the way")
    return folders
