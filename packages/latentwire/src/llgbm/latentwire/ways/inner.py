"""Inner adapters: at chosen layers, hidden states look at the latents by cross-attention.

Seed 004, "multi-depth latent adapters": hidden + tanh(gate) * attention(hidden, Z), after the
layer. The slots are read without a causal mask: they are all known before the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from llgbm.latentwire.attention_heads import split_heads
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.prefix import Prefix, empty_prefix, from_embeddings
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.ways.base import WAYS, Way
from llgbm.latentwire.ways.changes import OutputHook, changed
from llgbm.latentwire.ways.reading import layers_of, short_reading


@WAYS.register("inner")
@dataclass(frozen=True)
class InnerWayConfig:
    """Cross-attention from hidden states to latents, after chosen layers.

    Args:
        layers: decoder layers, 0 the first; those that end a quarter, a half and three quarters
            of the depth where empty.
        width: of all heads together.
        heads: attention heads; must divide the width.
        gate: where every gate starts; not 0, which would keep gradients from all else.
        prefix: slots are read as embeddings too.
    """

    layers: tuple[int, ...] = ()
    width: int = 256
    heads: int = 4
    gate: float = 0.1
    prefix: bool = True

    def build(self, width: int, reader: Reader) -> InnerWay:
        """Build it; the reader reads a short text for the size of its hidden states.

        Raises:
            ConfigError: layers that the reader lacks or that are named twice, heads that do not
                divide the width, or a gate of 0.
        """
        places = self.layers or tuple(
            sorted({max(0, reader.layers * quarter // 4 - 1) for quarter in (1, 2, 3)})
        )
        if len(set(places)) < len(places) or not set(places) <= set(range(reader.layers)):
            raise ConfigError(
                f"way.layers: expected different ones from 0 to {reader.layers - 1}, "
                f"got {list(places)}"
            )
        if self.heads < 1 or self.width < 1 or self.width % self.heads:
            raise ConfigError(f"way.heads: expected a divisor of {self.width}, got {self.heads}")
        if self.gate == 0:
            raise ConfigError("way.gate: expected any number but 0, got 0")
        return InnerWay(self, places, width, reader)


class InnerWay(Way):
    """Adapters hooked on decoder layers within `attached`."""

    def __init__(
        self, config: InnerWayConfig, places: tuple[int, ...], width: int, reader: Reader
    ) -> None:
        super().__init__()
        self.reads_embeddings = config.prefix
        layers_of(reader)
        hidden = short_reading(reader).hidden
        # A median, since a few tokens' states are larger by orders of magnitude.
        self.adapters = nn.ModuleDict(
            {
                str(place): InnerAdapter(
                    config,
                    width,
                    reader.width,
                    float(hidden[place].square().mean(1).median().sqrt()),
                )
                for place in places
            }
        )

    def prefix(self, reader: Reader, latents: Latents, embeds: Tensor | None) -> Prefix:
        """Return the adapter's vectors, or nothing at all where the config says so."""
        if embeds is None:
            return empty_prefix(reader, len(latents.mask))
        return from_embeddings(embeds, latents.mask)

    @contextmanager
    def attached(self, reader: Reader, latents: Latents) -> Iterator[None]:
        """Run the reader with the adapters; see `Way.attached`."""
        layers = layers_of(reader)
        hooks = [
            (layers[int(place)], _hook(adapter, latents))
            for place, adapter in self.adapters.items()
        ]
        with changed(reader, hooks):
            yield


class InnerAdapter(nn.Module):
    """Gated cross-attention at one layer.

    Args:
        config: of the way.
        width: z of the latents.
        hidden: h of the reader.
        size: root mean square of the layer's hidden states; what is found starts as large, so
            the gate is the share that it adds.
    """

    def __init__(self, config: InnerWayConfig, width: int, hidden: int, size: float) -> None:
        super().__init__()
        self.heads = config.heads
        self.hidden_norm, self.latent_norm = nn.LayerNorm(hidden), nn.LayerNorm(width)
        self.query = nn.Linear(hidden, config.width, bias=False)
        self.key = nn.Linear(width, config.width, bias=False)
        self.value = nn.Linear(width, config.width, bias=False)
        self.merge = nn.Linear(config.width, hidden, bias=False)
        nn.init.normal_(self.value.weight, std=width**-0.5)
        nn.init.normal_(self.merge.weight, std=size * config.width**-0.5)
        self.gate = nn.Parameter(torch.tensor(float(config.gate)))

    def forward(self, hidden: Tensor, latents: Latents) -> Tensor:
        """Hidden states [b, t, h] that have looked at latents, in their own dtype and place.

        Raises:
            ValueError: another number of rows than latents.
        """
        if len(hidden) != len(latents.mask):
            raise ValueError(f"inner: expected {len(latents.mask)} rows, got {len(hidden)}")
        values = self.latent_norm(latents.values)
        states = self.hidden_norm(hidden.to(device=values.device, dtype=values.dtype))
        looked = scaled_dot_product_attention(
            split_heads(self.query(states), self.heads),
            split_heads(self.key(values), self.heads),
            split_heads(self.value(values), self.heads),
            attn_mask=latents.mask[:, None, None, :],
        )
        found = self.gate.tanh() * self.merge(looked.transpose(1, 2).flatten(2))
        return hidden + found.to(hidden)


def _hook(adapter: nn.Module, latents: Latents) -> OutputHook:
    """Change what a decoder layer returns: hidden states, or a tuple that they lead."""

    def change(module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (adapter(output[0], latents), *output[1:])
        return adapter(output, latents)

    return change
