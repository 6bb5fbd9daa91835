"""Latents that are keys and values already, put where a text's own would stand.

Slots take the positions 0, 1, 2 ... (after the learned first one), as if each were one token: a
text of any length takes no more room than its slots.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.prefix import Prefix, from_keys_values
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.rotary import Rotary
from llgbm.latentwire.ways.base import WAYS, Way
from llgbm.latentwire.ways.first import First
from llgbm.latentwire.ways.reading import first_states, layers_of, short_reading


@WAYS.register("cache")
@dataclass(frozen=True)
class CacheWayConfig:
    """Keys and values as the encoder `cache` gives them.

    Args:
        first: learned keys and values before the slots, started as those of a text's first token.
    """

    first: bool = True

    def build(self, width: int, reader: Reader) -> CacheWay:
        """Build it.

        Raises:
            ConfigError: latents of another width than a reader's keys and values together.
        """
        wanted = reader.layers * 2 * reader.kv_heads * reader.head_dim
        if width != wanted:
            raise ConfigError(
                f"way: expected latents of width {wanted}, keys and values of every layer (encoder "
                f"cache, pooler last or mean), got {width}"
            )
        return CacheWay(self, reader)


class CacheWay(Way):
    """A cache of p = m positions, one more with `first`, and no embeddings."""

    reads_embeddings = False

    def __init__(self, config: CacheWayConfig, reader: Reader) -> None:
        super().__init__()
        self.rotary = Rotary(reader)
        self.first = First(first_states(short_reading(reader)) if config.first else ())

    def prefix(self, reader: Reader, latents: Latents, embeds: Tensor | None) -> Prefix:
        """Return keys and values of every layer, each on its layer's device."""
        mask = self.first.mask(latents.mask)
        begin = self.first.count
        positions = torch.arange(begin, mask.shape[1], device=mask.device)[None]
        # [b, m, layers, 2, kv_heads, head_dim].
        values = latents.values.unflatten(-1, (reader.layers, 2, reader.kv_heads, reader.head_dim))
        pairs = []
        for number, layer in enumerate(layers_of(reader)):
            keys, found = values[:, :, number].permute(2, 0, 3, 1, 4)
            keys = self.rotary.turned(keys, number, positions)
            # [b, m, 2, kv_heads, head_dim], the first position before them.
            states = torch.stack([keys, found]).permute(1, 3, 0, 2, 4)
            states = self.first.before(number, states)
            device = next(layer.parameters()).device
            keys, found = states.permute(2, 0, 3, 1, 4).to(device)
            pairs.append((keys, found))
        return from_keys_values(reader, tuple(pairs), mask)
