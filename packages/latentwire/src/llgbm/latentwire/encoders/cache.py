"""The reader's own keys and values of a text, in every layer, as states.

What 500xCompressor and Activation Beacon found: a frozen reader understands keys and values
sooner than vectors in the place of embeddings, because they are of a kind that it reads in every
layer. A LoRA makes positions hold what those before them say, so that few of them are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from llgbm.latentwire.attention_received import attention_received
from llgbm.latentwire.encoders.base import ENCODERS, Encoder
from llgbm.latentwire.encoders.tokens import padded_tokens
from llgbm.latentwire.errors import ConfigError, PromptError
from llgbm.latentwire.latents import States
from llgbm.latentwire.lora_parameters import LoRAParameters
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.rotary import Rotary
from llgbm.latentwire.scoring import cache_of, decode

TUNING = ("lora", "frozen")


@ENCODERS.register("cache")
@dataclass(frozen=True)
class CacheEncoderConfig:
    """Keys, without their positions, and values of every layer; for the way `cache`.

    Args:
        tuning: `lora` (the reader's weights shared and frozen, factors trained) or `frozen`.
        r: LoRA rank.
        lora_alpha: LoRA alpha.
        received: give the attention that positions received, too: reads every text twice more.
    """

    tuning: Literal["lora", "frozen"] = "lora"
    r: int = 32
    lora_alpha: float = 64.0
    received: bool = False

    def build(self, reader: Reader) -> CacheEncoder:
        """Build it on the reader's device.

        Raises:
            ConfigError: an unknown tuning, or a reader without rotary positions.
        """
        if self.tuning not in TUNING:
            raise ConfigError(f"encoder.tuning: expected one of {TUNING}, got {self.tuning!r}")
        if self.tuning == "lora" and reader.layers < 2:
            raise ConfigError(f"encoder.tuning: {reader.name} has one layer: nothing to adapt")
        return CacheEncoder(self, reader)


class CacheEncoder(Encoder):
    """States [b, t, layers * 2 * kv_heads * head_dim]: a layer's keys, then its values."""

    def __init__(self, config: CacheEncoderConfig, reader: Reader) -> None:
        super().__init__()
        self.width = reader.layers * 2 * reader.kv_heads * reader.head_dim
        self._reader = [reader]
        self.gives_received = config.received
        self.rotary = Rotary(reader)
        self.lora: LoRAParameters | None = None
        if config.tuning == "lora":
            # Keys and values of the last layer come from the output of the one before it.
            layers = range(reader.layers - 1)
            self.lora = LoRAParameters(reader, config.r, config.lora_alpha, layers)

    def forward(self, texts: Sequence[str]) -> States:
        """See `Encoder.forward`."""
        reader = self._reader[0]
        ids, mask = padded_tokens(reader, texts)
        cache = cache_of(reader)
        with nullcontext() if self.lora is None else self.lora.applied():
            decode(reader, reader.embed(ids), mask, cache=cache)
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        states: list[Tensor] = []
        for number, layer in enumerate(cache.layers):
            if layer.keys.shape[2] != ids.shape[1]:
                raise PromptError(
                    f"text: expected at most {layer.keys.shape[2]} tokens, which layer {number} "
                    f"of {reader.name} looks back, got {ids.shape[1]}"
                )
            keys = self.rotary.unturned(layer.keys, number, positions)
            # [b, kv_heads, t, head_dim] to [b, t, kv_heads * head_dim].
            states += [each.transpose(1, 2).flatten(2) for each in (keys, layer.values.float())]
        start = len(reader.opening)
        received = attention_received(reader, texts) if self.gives_received else None
        return States(torch.cat(states, dim=-1)[:, start:], mask[:, start:], received=received)
