"""Latents as input embeddings, read by a reader whose first layers carry a LoRA meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from llgbm.deltas.spec import ALL_LINEAR
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.lora_parameters import LoRAParameters
from llgbm.latentwire.prefix import Prefix, from_embeddings
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.ways.base import WAYS, Way
from llgbm.latentwire.ways.changes import changed


@WAYS.register("lora")
@dataclass(frozen=True)
class LoRAWayConfig:
    """Embeddings and a LoRA on the reader, which is on only while latents are read.

    Args:
        layers: decoder layers that carry it, from the first; 0 for all.
        r: LoRA rank.
        lora_alpha: LoRA alpha.
        target_modules: names of linears.
    """

    layers: int = 0
    r: int = 16
    lora_alpha: float = 32.0
    target_modules: tuple[str, ...] = ALL_LINEAR

    def build(self, width: int, reader: Reader) -> LoRAWay:
        """Build it on the reader's device.

        Raises:
            ConfigError: more layers than the reader has.
            ModelError: a target module that the reader lacks.
        """
        if not 0 <= self.layers <= reader.layers:
            raise ConfigError(f"way.layers: expected 0 to {reader.layers}, got {self.layers}")
        return LoRAWay(self, reader)


class LoRAWay(Way):
    """Input embeddings; the reader's linears run with the adapter within `attached`."""

    def __init__(self, config: LoRAWayConfig, reader: Reader) -> None:
        super().__init__()
        layers = list(range(config.layers)) or None
        self.lora = LoRAParameters(
            reader, config.r, config.lora_alpha, layers, config.target_modules
        )

    def prefix(self, reader: Reader, latents: Latents, embeds: Tensor | None) -> Prefix:
        """Return the adapter's vectors as they are."""
        assert embeds is not None
        return from_embeddings(embeds, latents.mask)

    @contextmanager
    def attached(self, reader: Reader, latents: Latents) -> Iterator[None]:
        """Run the reader with the LoRA; see `Way.attached`."""
        with changed(reader), self.lora.applied():
            yield
