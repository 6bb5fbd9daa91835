"""Residual and product vector quantisation: a slot's channels in groups, each a sum of entries.

Every group of channels has `stages` codebooks; each tells what the stages before it left over
(residual quantisation, SoundStream, Zeghidour et al. 2021). Codebooks are moving averages of what
falls to their entries, start from k-means on the first batch, and entries that nothing falls to
are set on slots of the batch (VQ-VAE-2; vector-quantize-pytorch does all this).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.latentwire.bottlenecks.base import BOTTLENECKS, DiscreteBottleneck
from llgbm.latentwire.bottlenecks.package import quantizers
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.wire.header import LARGEST_CODEBOOK


@BOTTLENECKS.register("vq")
@dataclass(frozen=True)
class VectorConfig:
    """Codebooks; a slot takes groups * stages * ceil(log2 codebook) bits, by default 64.

    Args:
        groups: equal parts of the channels, quantised apart.
        stages: codebooks of a group.
        codebook: entries of a codebook.
        decay: of the moving averages, a training step.
        dead_below: an entry that fewer vectors a step fall to, on average, is set anew. Must be
            well below the slots of a batch divided by `codebook`.
        commitment: weight, within `last_loss`, of latents being drawn to their entries.
        seed: of k-means and of entries set anew.
    """

    groups: int = 4
    stages: int = 2
    codebook: int = 256
    decay: float = 0.95
    dead_below: float = 0.05
    commitment: float = 1.0
    seed: int = 0

    def build(self, width: int, reader: Reader) -> VectorBottleneck:
        """Build it.

        Raises:
            ConfigError: sizes out of bounds, or groups that do not divide the width.
            MissingPackageError: vector-quantize-pytorch is not installed.
        """
        if self.groups < 1 or self.stages < 1 or width % self.groups:
            raise ConfigError(
                f"bottleneck: expected stages of at least 1 and groups that divide {width}, "
                f"got {self.stages} and {self.groups}"
            )
        if not 2 <= self.codebook <= LARGEST_CODEBOOK:
            raise ConfigError(
                f"bottleneck.codebook: expected from 2 to {LARGEST_CODEBOOK}, got {self.codebook}"
            )
        if not 0 < self.decay < 1 or self.dead_below < 0 or self.commitment < 0:
            raise ConfigError(
                "bottleneck: expected a decay between 0 and 1, and dead_below and commitment of "
                f"at least 0, got {self.decay:g}, {self.dead_below:g}, {self.commitment:g}"
            )
        return VectorBottleneck(self, width, reader)


class VectorBottleneck(DiscreteBottleneck):
    """Nearest entries, group by group and stage by stage."""

    steps: Tensor

    def __init__(self, config: VectorConfig, width: int, reader: Reader) -> None:
        super().__init__(width)
        self.config = config
        self.groups, self.codebook = config.groups * config.stages, config.codebook
        package = quantizers()
        self.parts = nn.ModuleList(
            package.ResidualVQ(
                dim=width // config.groups,
                num_quantizers=config.stages,
                codebook_size=config.codebook,
                decay=config.decay,
                threshold_ema_dead_code=config.dead_below,
                kmeans_init=True,
                commitment_weight=config.commitment,
                rotation_trick=False,
            )
            for _ in range(config.groups)
        )
        # Entries before the first batch: of the size of embeddings, a stage at a time smaller.
        for part in self.parts:
            for stage, layer in enumerate(_layers(part)):
                layer.codebook = torch.randn_like(layer.codebook) * reader.embedding_rms / 2**stage
        # Counts calls in training: what is drawn depends on it alone, so a resumed run draws alike.
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, latents: Latents) -> Latents:
        """See `Bottleneck.forward`; in training codebooks move, after they have been read."""
        values, mask = latents.values, latents.mask
        if not self.training:
            self.last_loss = values.new_zeros(())
            entries = self.values_of(self.codes(latents))
            return latents.replaced(entries + (values - values.detach()))
        devices = [values.device] if values.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.config.seed + int(self.steps))
            self.steps += 1
            real = self._split(values[mask][None])
            results = [part(channels) for part, channels in zip(self.parts, real, strict=True)]
        self.last_loss = torch.stack([loss.mean() for _, _, loss in results]).mean()
        changed = torch.zeros_like(values)
        changed[mask] = torch.cat([entries[0] for entries, _, _ in results], dim=-1)
        return latents.replaced(changed)

    @torch.no_grad()
    def codes(self, latents: Latents) -> Tensor:
        """See `DiscreteBottleneck.codes`; column group * stages + stage."""
        found = []
        for part, left in zip(self.parts, self._split(latents.values), strict=True):
            for layer in _layers(part):
                nearest = torch.cdist(left, layer.codebook.expand(len(left), -1, -1)).argmin(-1)
                left = left - layer.codebook[nearest]
                found.append(nearest)
        return torch.stack(found, dim=-1) * latents.mask[..., None]

    def values_of(self, codes: Tensor) -> Tensor:
        """See `DiscreteBottleneck.values_of`."""
        columns = iter(codes.unbind(-1))
        sums = [
            torch.stack([layer.codebook[next(columns)] for layer in _layers(part)]).sum(0)
            for part in self.parts
        ]
        return torch.cat(sums, dim=-1)

    def _split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Channels of every group."""
        return values.chunk(self.config.groups, dim=-1)


def _layers(part: Any) -> list[Any]:
    """Quantisers of a group's stages."""
    return list(part.layers)
