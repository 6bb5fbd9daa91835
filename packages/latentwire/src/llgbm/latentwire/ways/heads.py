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
from torch.nn.functional import pad, scaled_dot_product_attention

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.head_shares import head_counts, owners
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.own_attention import attends_by, check_plain
from llgbm.latentwire.poolers.base import Pooler
from llgbm.latentwire.poolers.heads import HeadsPooler
from llgbm.latentwire.prefix import Prefix, from_keys_values
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.rotary import Rotary
from llgbm.latentwire.ways.base import WAYS, Way
from llgbm.latentwire.ways.changes import changed
from llgbm.latentwire.ways.first import First
from llgbm.latentwire.ways.reading import first_states, layers_of, short_reading

NAME = "llgbm_heads"
# By layer [b, kv_heads, p]: what a head's queries see of the prefix.
_VISIBLE: ContextVar[Tensor] = ContextVar("visible")


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
    """A cache with as many positions as the head with most pairs has, one more with `first`."""

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
        """Return keys and values of every layer, each on its layer's device."""
        pairs, _, longest = self._placed(reader, latents)
        mask = torch.arange(pairs.shape[2], device=pairs.device)[None] < longest[:, None]
        mask = self.first.mask(mask)
        begin = self.first.count
        positions = torch.arange(begin, mask.shape[1], device=mask.device)[None]
        heads = self.shape[1]
        found = []
        for number, layer in enumerate(layers_of(reader)):
            # [b, kv_heads, p, 2, head_dim].
            own = pairs[:, number * heads : (number + 1) * heads]
            keys = self.rotary.turned(own[..., 0, :], number, positions)
            # [b, p, 2, kv_heads, head_dim], the first position before them.
            states = torch.stack([keys, own[..., 1, :]], dim=2).permute(0, 3, 2, 1, 4)
            states = self.first.before(number, states)
            device = next(layer.parameters()).device
            keys, values = states.permute(2, 0, 3, 1, 4).to(device)
            found.append((keys, values))
        return from_keys_values(reader, tuple(found), mask)

    @contextmanager
    def attached(self, reader: Reader, latents: Latents) -> Iterator[None]:
        """See `Way.attached`: within the block heads see their own pairs alone."""
        visible = self._placed(reader, latents)[1]
        visible = torch.cat([visible.new_ones(*visible.shape[:2], self.first.count), visible], 2)
        token = _VISIBLE.set(visible.unflatten(1, self.shape).transpose(0, 1))
        try:
            with changed(reader), attends_by(reader, NAME, _attention):
                yield
        finally:
            _VISIBLE.reset(token)

    def _placed(self, reader: Reader, latents: Latents) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs where they stand: [b, heads, p, 2, head_dim], which of them there are
        [b, heads, p], and the positions of every text [b]."""
        layouts = [head_counts(self.shares, slots) for slots in latents.counts.tolist()]
        longest = torch.tensor([int(counts.max()) for counts in layouts])
        shape = (len(layouts), len(self.shares), int(longest.max()))
        device = latents.values.device
        pairs = latents.values.new_zeros(*shape, 2, reader.head_dim)
        there = torch.zeros(shape, dtype=torch.bool, device=device)
        texts, heads, places = [], [], []
        for text, counts in enumerate(layouts):
            head, place = owners(counts)
            texts.append(torch.full_like(head, text))
            heads.append(head)
            # The last pair of every head stands last.
            places.append(place + int(longest[text]) - counts[head])
        index = tuple(torch.cat(each).to(device) for each in (texts, heads, places))
        rows = torch.cat([latents.row(text) for text in range(len(layouts))])
        flat = rows.reshape(-1, 2, reader.head_dim)
        pairs = pairs.index_put(index, flat)
        # A pair of zeros is none: the text had fewer positions than the head has room for.
        there = there.index_put(index, flat.detach().ne(0).any(2).any(1))
        return pairs, there, longest.to(device)


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
    """softmax(scaling q k^T + mask) v, each head's mask its own; as transformers calls it."""
    check_plain(dropout, softcap, s_aux)
    heads, kv_heads, positions = query.shape[1], key.shape[1], key.shape[2]
    visible = _VISIBLE.get()[int(module.layer_idx)].to(query.device)  # type: ignore[arg-type]
    least = torch.finfo(query.dtype).min
    hidden = query.new_zeros(visible.shape).masked_fill(~visible, least)
    # What follows the prefix is masked as ever.
    mask = pad(hidden, (0, positions - hidden.shape[2]))[:, :, None]
    mask = mask.repeat_interleave(heads // kv_heads, dim=1)
    if attention_mask is not None:
        mask = (mask + attention_mask).clamp(min=least)
    key, value = (each.repeat_interleave(heads // kv_heads, dim=1) for each in (key, value))
    output = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    return output.transpose(1, 2).contiguous(), None
