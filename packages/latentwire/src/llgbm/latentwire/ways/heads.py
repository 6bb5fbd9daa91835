"""Keys and values of which every head has its own number, put where a text's own would stand.

Every head's pairs stand side by side right before the reader's text, in their order; in front of
those that have few there is nothing to be seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.head_pairs import HeadPairs, attention, stacked
from llgbm.latentwire.head_shares import head_counts
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.own_attention import attends_by, check_plain
from llgbm.latentwire.poolers.base import Pooler
from llgbm.latentwire.poolers.heads import HeadsPooler
from llgbm.latentwire.prefix import Prefix, from_elsewhere
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.rotary import Rotary
from llgbm.latentwire.ways.base import WAYS, Way
from llgbm.latentwire.ways.changes import changed
from llgbm.latentwire.ways.first import First
from llgbm.latentwire.ways.reading import first_states, layers_of, short_reading

NAME = "llgbm_heads"
# By layer and key head.
_PAIRS: ContextVar[tuple[tuple[HeadPairs, ...], ...]] = ContextVar("pairs")


@WAYS.register("heads")
@dataclass(frozen=True)
class HeadsWayConfig:
    """Keys and values as the pooler `heads` gives them.

    Args:
        first: learned keys and values before all others, started as those of a text's first token;
            every head sees them.
    """

    first: bool = True

    def build(self, width: int, reader: Reader) -> HeadsWay:
        """Build it.

        Raises:
            ConfigError: latents of another width than a reader's keys and values together, or a
                reader some of whose layers look back a window only.
        """
        wanted = reader.layers * 2 * reader.kv_heads * reader.head_dim
        if width != wanted:
            raise ConfigError(
                f"way: expected latents of width {wanted}, keys and values of every layer (encoder "
                f"cache, pooler heads), got {width}"
            )
        kinds = getattr(reader.config, "layer_types", None)
        window = None if kinds else getattr(reader.config, "sliding_window", None)
        if window or set(kinds or ()) - {"full_attention"}:
            raise ConfigError(
                f"way: heads: expected a reader whose layers see all positions, {reader.name} has "
                "layers that look back a window only: take the way `cache`"
            )
        return HeadsWay(self, reader)


class HeadsWay(Way):
    """As many positions as the head with most pairs has, one more with `first`.

    There is room for m pairs of every head in the mean, and no more; texts that are read together
    are padded to the one with most.
    """

    reads_embeddings = False
    slots_alike = False
    shares: Tensor

    def __init__(self, config: HeadsWayConfig, reader: Reader) -> None:
        super().__init__()
        self.shape = (reader.layers, reader.kv_heads)
        self.rotary = Rotary(reader)
        self.first = First(first_states(short_reading(reader)) if config.first else ())
        heads = reader.layers * reader.kv_heads
        self.register_buffer("shares", torch.ones(heads, dtype=torch.float64))

    def fit(self, pooler: Pooler) -> None:
        """See `Way.fit`: heads' shares."""
        assert isinstance(pooler, HeadsPooler)
        self.shares.copy_(pooler.shares)

    def prefix(self, reader: Reader, latents: Latents, embeds: Tensor | None) -> Prefix:
        """Return positions; what stands there is held as long as `attached` lasts."""
        longest = torch.tensor([int(counts.max()) for counts in self._counts(latents)])
        mask = torch.arange(int(longest.max()))[None] < longest[:, None]
        return from_elsewhere(reader, self.first.mask(mask).to(latents.values.device))

    @contextmanager
    def attached(self, reader: Reader, latents: Latents) -> Iterator[None]:
        """See `Way.attached`: within the block heads see their own pairs."""
        token = _PAIRS.set(self.pairs(reader, latents))
        try:
            with changed(reader), attends_by(reader, NAME, _attention):
                yield
        finally:
            _PAIRS.reset(token)

    def pairs(self, reader: Reader, latents: Latents) -> tuple[tuple[HeadPairs, ...], ...]:
        """What every key head of every layer sees, in the reader's dtype, on its layer's device."""
        counts = self._counts(latents)
        # By text and head [n, 2, head_dim], and the position after a text's last pair.
        rows = [
            latents.row(text).reshape(-1, 2, reader.head_dim).split(each.tolist())
            for text, each in enumerate(counts)
        ]
        ends = [self.first.count + int(each.max()) for each in counts]
        found = []
        for number, layer in enumerate(layers_of(reader)):
            heads = range(number * self.shape[1], (number + 1) * self.shape[1])
            parts = [row[head] for head in heads for row in rows]
            sizes = [len(part) for part in parts]
            places = [
                torch.arange(end - size, end)
                for end, size in zip(ends * self.shape[1], sizes, strict=True)
            ]
            flat = torch.cat(parts)
            positions = torch.cat(places).to(flat.device)
            keys = self.rotary.turned(flat[None, None, :, 0], number, positions[None])[0, 0]
            device = next(layer.parameters()).device
            states = torch.stack([keys, flat[:, 1]], dim=1).to(device, reader.dtype)
            # A pair of zeros is none: the text had fewer positions than the head has room for.
            seen = flat.detach().ne(0).any(2).any(1).to(device)
            parts_of, seen_of = states.split(sizes), seen.split(sizes)
            firsts = (
                self.first.states[number].unbind(1) if self.first.count else (None,) * len(heads)
            )
            found.append(
                tuple(
                    stacked(parts_of[at : at + len(rows)], seen_of[at : at + len(rows)], first)
                    for at, first in zip(range(0, len(parts), len(rows)), firsts, strict=True)
                )
            )
        return tuple(found)

    def _counts(self, latents: Latents) -> list[Tensor]:
        """Pairs of every head [heads], of every text."""
        return [head_counts(self.shares, slots) for slots in latents.counts.tolist()]


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """A head's own pairs and what was read after them; as transformers calls it."""
    check_plain(dropout, softcap, s_aux)
    assert attention_mask is not None
    own = _PAIRS.get()[int(module.layer_idx)]  # type: ignore[arg-type]
    # The mask's first columns are the positions of the pairs, which have masks of their own.
    output = attention(query, key, value, attention_mask[..., -key.shape[2] :], scaling, own)
    return output.transpose(1, 2).contiguous(), None
