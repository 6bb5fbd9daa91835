"""Deep prefix: latents as keys and values of every layer, which all tokens attend to.

Prefix-tuning v2's place of entry, made from latents instead of learned as constants (seed 004,
"DeepPrefixGenerator"). Keys are made as a cache holds them: no rotary embedding is applied to
them, so a slot has no position of its own and the maps learn what keys at that place look like.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.prefix import Prefix, from_keys_values
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.ways.base import WAYS, Way
from llgbm.latentwire.ways.first import First
from llgbm.latentwire.ways.layer_maps import LayerMaps
from llgbm.latentwire.ways.reading import first_states, keys_and_values, layers_of, short_reading


@WAYS.register("deep_prefix")
@dataclass(frozen=True)
class DeepPrefixWayConfig:
    """Keys and values of every layer.

    Args:
        hidden: features of the trunk that all layers share.
        first: learned keys and values before the slots, started as those of a text's first
            token. Readers send attention there that has nothing to look for.
    """

    hidden: int = 256
    first: bool = True

    def build(self, width: int, reader: Reader) -> DeepPrefixWay:
        """Build it; the reader reads a short text for the size of its keys and values.

        Raises:
            ConfigError: no features, or a reader whose layers are not found.
        """
        if self.hidden < 1:
            raise ConfigError(f"way.hidden: expected at least 1, got {self.hidden}")
        return DeepPrefixWay(self, width, reader)


class DeepPrefixWay(Way):
    """A cache of p = m positions, one more with `first`, and no embeddings."""

    reads_embeddings = False

    def __init__(self, config: DeepPrefixWayConfig, width: int, reader: Reader) -> None:
        super().__init__()
        layers_of(reader)
        reading = short_reading(reader)
        # [t, 2, kv_heads, head_dim] of every layer. Its first token's states are unlike all
        # others, so they have no part in means and sizes.
        states = keys_and_values(reading)
        self.maps = LayerMaps(
            width,
            config.hidden,
            [each[1:].mean(0).flatten() for each in states],
            [each[1:].std(0).flatten() for each in states],
        )
        self.first = First(first_states(reading) if config.first else ())

    def prefix(self, reader: Reader, latents: Latents, embeds: Tensor | None) -> Prefix:
        """Return keys and values of every layer, each on its layer's device.

        Raises:
            ValueError: a reader of other layers or heads than the one it was built for.
        """
        mask = self.first.mask(latents.mask)
        maps = self.maps(latents.values)
        layers = layers_of(reader)
        if len(maps) != len(layers):
            raise ValueError(f"deep_prefix: expected {len(maps)} layers, got {len(layers)}")
        pairs = []
        for number, (flat, layer) in enumerate(zip(maps, layers, strict=True)):
            states = self.first.before(number, flat.unflatten(-1, (2, -1, reader.head_dim)))
            device = next(layer.parameters()).device
            # [b, p, 2, kv_heads, head_dim] to two of [b, kv_heads, p, head_dim].
            keys, values = states.permute(2, 0, 3, 1, 4).to(device)
            pairs.append((keys, values))
        return from_keys_values(reader, tuple(pairs), mask)
