"""What a reader's inner states look like on a short text: the sizes that ways start with."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import cache_of, decode

TEXT = (
    "The harbour town has two markets. On Mondays, farmers from the valley bring apples, cheese "
    "and bread; on Fridays, boats come in with herring before 6 o'clock. Mrs Lund, who has kept "
    "the books since 1987, says that prices rose by a third last year, yet more people came."
)


@dataclass(frozen=True)
class Reading:
    """A reader's states at the t tokens of the short text, all float32.

    Attributes:
        keys: a layer's keys [t, kv_heads, head_dim] as its cache holds them, after rotary.
        values: a layer's values [t, kv_heads, head_dim].
        hidden: hidden states [t, h] after every layer.
        outputs: what the modules that were asked for returned, [t, out].
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    hidden: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


@torch.no_grad()
def short_reading(reader: Reader, modules: Sequence[nn.Module] = ()) -> Reading:
    """Run the bare reader once on a short text of about 60 tokens.

    Args:
        reader: frozen.
        modules: whose outputs are kept too.
    """
    ids = [*reader.opening, *reader.tokens(TEXT)][: reader.limit]
    embeds = reader.embed(torch.tensor([ids], device=reader.device))
    mask = torch.ones(1, len(ids), dtype=torch.bool, device=reader.device)
    cache = cache_of(reader)
    kept: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        kept[module] = output[0].float()

    with ExitStack() as undo:
        for module in modules:
            undo.callback(module.register_forward_hook(keep).remove)
        hidden = decode(reader, embeds, mask, cache=cache, all_layers=True).hidden_states
    return Reading(
        tuple(layer.keys[0].float().transpose(0, 1) for layer in cache.layers),
        tuple(layer.values[0].float().transpose(0, 1) for layer in cache.layers),
        tuple(states[0].float() for states in hidden[1:]),
        tuple(kept[module] for module in modules),
    )


def keys_and_values(reading: Reading) -> list[Tensor]:
    """A layer's keys and values together, [t, 2, kv_heads, head_dim]."""
    return [torch.stack(pair, 1) for pair in zip(reading.keys, reading.values, strict=True)]


def first_states(reading: Reading) -> list[Tensor]:
    """A layer's key and value of the first token, [2, kv_heads, head_dim]."""
    return [each[0] for each in keys_and_values(reading)]


def layers_of(reader: Reader) -> Sequence[Any]:
    """Decoder layers of a reader, from the first.

    Raises:
        ConfigError: a model whose decoder body has no list of them.
    """
    layers = getattr(reader.model.get_decoder(), "layers", ())
    if len(layers) < reader.layers:
        raise ConfigError(
            f"way: expected a reader with {reader.layers} decoder layers, got {len(layers)}"
        )
    return layers[: reader.layers]
