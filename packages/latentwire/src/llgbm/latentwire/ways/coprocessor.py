"""Coprocessor: latents as input embeddings, and what they add to the slots' keys and values.

Seed 004 ("latent coprocessor: KV deltas") and "differentiable cache augmentation" say only that a
cache is augmented. Here: the reader makes its own keys and values of the slots, as it does of
any embedding, and at every layer the coprocessor adds a delta to them, made from the same latents.
A delta joins what `k_proj` and `v_proj` return, before key norms and rotary embedding, so a key
keeps the position of its slot. The text's own keys and values are left alone. Nothing else is
cached: it excludes the deep prefix, whose slots have no embeddings.

A row is [opening | slots | mark | ending | answer], so slot j stands j after the opening, which
begins at the row's first unmasked position: rows may be padded on either side. Only a call on an
empty cache holds slots; later calls of cached writing pass by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.prefix import Prefix, from_embeddings
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.ways.base import WAYS, Way
from llgbm.latentwire.ways.changes import OutputHook, changed
from llgbm.latentwire.ways.layer_maps import LayerMaps
from llgbm.latentwire.ways.reading import layers_of, short_reading


@WAYS.register("coprocessor")
@dataclass(frozen=True)
class CoprocessorWayConfig:
    """Embeddings, and deltas of their keys and values at every layer.

    Args:
        hidden: features of the trunk that all layers share.
        start: size of the first deltas over that of the reader's own keys and values; not 0,
            which would keep gradients from the trunk.
    """

    hidden: int = 256
    start: float = 0.1

    def build(self, width: int, reader: Reader) -> CoprocessorWay:
        """Build it; the reader reads a short text for the size of its keys and values.

        Raises:
            ConfigError: no features, a start of 0 or below, or a reader without `k_proj` and
                `v_proj`.
        """
        if self.hidden < 1 or self.start <= 0:
            raise ConfigError(
                "way: expected hidden of at least 1 and start above 0, "
                f"got {self.hidden}, {self.start:g}"
            )
        return CoprocessorWay(self, width, reader)


class CoprocessorWay(Way):
    """Deltas hooked on the key and value projections within `attached`."""

    def __init__(self, config: CoprocessorWayConfig, width: int, reader: Reader) -> None:
        super().__init__()
        reading = short_reading(reader, _projections(reader))
        # The first token's states are unlike all others: they have no part in sizes.
        sizes = [config.start * output[1:].std(0) for output in reading.outputs]
        self.maps = LayerMaps(width, config.hidden, [torch.zeros_like(s) for s in sizes], sizes)

    def prefix(self, reader: Reader, latents: Latents, embeds: Tensor | None) -> Prefix:
        """Return the adapter's vectors as they are."""
        assert embeds is not None
        return from_embeddings(embeds, latents.mask)

    @contextmanager
    def attached(self, reader: Reader, latents: Latents) -> Iterator[None]:
        """Run the reader with the deltas; see `Way.attached`."""
        places = _SlotPlaces(len(reader.opening), latents.mask)
        deltas = self.maps(latents.values)
        hooks = [
            (projection, _hook(delta, places))
            for projection, delta in zip(_projections(reader), deltas, strict=True)
        ]
        with changed(reader, hooks, places.look):
            yield


class _SlotPlaces:
    """Where the slots of the running call stand.

    Attributes:
        now: [b, m] int64, or None where the running call holds no slots.
    """

    def __init__(self, opening: int, mask: Tensor) -> None:
        self.opening = opening
        self.mask = mask
        self.now: Tensor | None = None

    def look(self, body: nn.Module, args: Any, call: dict[str, Any]) -> None:
        """Find them from the arguments of the decoder body.

        Raises:
            ValueError: no attention mask [b, t], other rows than latents, or rows too short.
        """
        cache = call.get("past_key_values")
        if cache is not None and cache.get_seq_length() > 0:
            self.now = None
            return
        attention = call.get("attention_mask")
        if not isinstance(attention, Tensor) or attention.dim() != 2:
            raise ValueError("coprocessor: attention_mask: expected [b, t], got another")
        if len(attention) != len(self.mask):
            raise ValueError(f"coprocessor: expected {len(self.mask)} rows, got {len(attention)}")
        needed = self.opening + self.mask.sum(1)
        if (attention.sum(1) < needed).any():
            raise ValueError("coprocessor: expected rows that hold the opening and all slots")
        begin = attention.long().argmax(1) + self.opening
        self.now = begin[:, None] + torch.arange(self.mask.shape[1], device=begin.device)


def _hook(delta: Tensor, places: _SlotPlaces) -> OutputHook:
    """Add deltas [b, m, out] to what a projection returns, [b, t, out], where slots stand."""

    def change(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if places.now is None:
            return output
        # What stands at masked slots is zero, and may be added anywhere within the row.
        real = (delta * places.mask[..., None]).to(output)
        index = places.now.to(output.device).clamp(max=output.shape[1] - 1)
        return output.scatter_add(1, index[..., None].expand_as(real), real)

    return change


def _projections(reader: Reader) -> list[nn.Module]:
    """Every layer's key projection and value projection.

    Raises:
        ConfigError: a layer without them.
    """
    found: list[nn.Module] = []
    for number, layer in enumerate(layers_of(reader)):
        for name in ("k_proj", "v_proj"):
            module = getattr(getattr(layer, "self_attn", None), name, None)
            if module is None:
                raise ConfigError(f"way: coprocessor: layer {number}: expected {name}, got none")
            found.append(module)
    return found
