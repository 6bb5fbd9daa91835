"""Keys without their positions: rotary embeddings taken from a cache's keys, and given again.

A cache holds keys as attention uses them, turned by their token's position. Latents that are keys
must not carry the positions of the text that they were made of: they stand in other places.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal

import torch
from torch import Tensor

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import cache_of, decode

# Which coordinates are turned together: d and d + half (Llama), or 2 d and 2 d + 1 (Cohere).
Layout = Literal["halves", "pairs"]
LAYOUTS: tuple[Layout, ...] = ("halves", "pairs")
# Largest error of keys that were moved, over their size; bfloat16 keys are off by .005.
TOLERANCE = 0.03
# Positions that keys are moved by to see whether they turn as is thought here.
SHIFT, LENGTH = 5, 24


class Rotary:
    """Turns keys of every layer of a reader by their positions, and back.

    Args:
        reader: with rotary position embeddings.

    Raises:
        ConfigError: a reader whose keys turn in another way.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = [reader]
        body: Any = reader.model.get_decoder()
        self._angles = getattr(body, "rotary_emb", None)
        if self._angles is None:
            raise ConfigError(f"{reader.name}: expected a reader with rotary positions")
        self._by_layer = "layer_type" in inspect.signature(self._angles.forward).parameters
        self.layout = self._found_layout()

    def turned(self, keys: Tensor, layer: int, positions: Tensor) -> Tensor:
        """Keys as a cache holds them, float32.

        Args:
            keys: [b, kv_heads, p, head_dim] without positions.
            layer: whose angles are used.
            positions: [b, p] or [1, p] int64.
        """
        cos, sin = self._cos_sin(keys, layer, positions)
        return _turned(keys.float(), cos, sin, self.layout)

    def unturned(self, keys: Tensor, layer: int, positions: Tensor) -> Tensor:
        """What `turned` makes the cache's keys of again; arguments as there."""
        cos, sin = self._cos_sin(keys, layer, positions)
        # Some readers scale their angles (YaRN): then turning also scales.
        size = cos.square() + sin.square()
        return _turned(keys.float(), cos / size, -sin / size, self.layout)

    def _cos_sin(self, keys: Tensor, layer: int, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [b, 1, p, d] float32 of a layer."""
        kind = {}
        if self._by_layer:
            kind = {"layer_type": self._reader[0].config.layer_types[layer]}
        assert self._angles is not None
        cos, sin = self._angles(keys.new_zeros(1, dtype=torch.float32), positions, **kind)
        return cos[:, None].float(), sin[:, None].float()

    @torch.no_grad()
    def _found_layout(self) -> Layout:
        """The layout by which the reader's own keys move to other positions."""
        reader = self._reader[0]
        ids = torch.arange(1, 1 + LENGTH, device=reader.device)[None] % reader.vocabulary
        here, there = (_first_keys(reader, ids, shift) for shift in (0, SHIFT))
        places = torch.arange(LENGTH, device=reader.device)[None]
        for self.layout in LAYOUTS:
            moved = self.turned(self.unturned(here, 0, places), 0, places + SHIFT)
            if float((moved - there).norm() / there.norm()) < TOLERANCE:
                return self.layout
        raise ConfigError(f"{reader.name}: expected keys that rotary positions turn")


def _first_keys(reader: Reader, ids: Tensor, shift: int) -> Tensor:
    """Keys [1, kv_heads, t, head_dim] float32 of the first layer, for a text begun at `shift`.

    Those of later layers differ between positions by the rounding of all layers before them.
    """
    cache = cache_of(reader)
    mask = torch.ones_like(ids, dtype=torch.bool)
    decode(reader, reader.embed(ids), mask, cache=cache, shift=shift)
    keys: Tensor = cache.layers[0].keys
    return keys.float()


def _turned(keys: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
    """Turn the first d coordinates, d those of cosines and sines; the others have no position."""
    width = cos.shape[-1]
    turning, rest = keys[..., :width], keys[..., width:]
    if layout == "halves":
        first, second = turning.chunk(2, dim=-1)
        across = torch.cat([-second, first], dim=-1)
    else:
        pairs = turning.unflatten(-1, (-1, 2))
        across = torch.stack([-pairs[..., 1], pairs[..., 0]], dim=-1).flatten(-2)
    return torch.cat([turning * cos + across * sin, rest], dim=-1)
