"""Keys and values of heads that have different numbers of them, and attention to them.

Nothing is padded to the head with most pairs, only to the text with most among those that are read
together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence


@dataclass(frozen=True)
class HeadPairs:
    """What one key head of one layer has, of b texts.

    Attributes:
        keys: [b, n, head_dim], turned by their positions; the last pair of every text stands last.
        values: [b, n, head_dim].
        seen: [b, n] bool: which of them there are.
    """

    keys: Tensor
    values: Tensor
    seen: Tensor


def stacked(states: Sequence[Tensor], seen: Sequence[Tensor], first: Tensor | None) -> HeadPairs:
    """One head's pairs of several texts.

    Args:
        states: of every text [n, 2, head_dim], key and value.
        seen: of every text [n] bool.
        first: [2, head_dim] of a position before all others, or None.
    """
    keys, values = pad_sequence(list(states), True, 0.0, "left").unbind(2)
    mask = pad_sequence(list(seen), True, False, "left")
    if first is not None:
        before = first.to(keys).expand(len(keys), 1, 2, -1)
        keys = torch.cat([before[:, :, 0], keys], dim=1)
        values = torch.cat([before[:, :, 1], values], dim=1)
        mask = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)
    return HeadPairs(keys, values, mask)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    scaling: float,
    own: Sequence[HeadPairs],
) -> Tensor:
    """softmax(scaling q k^T + mask) v over a head's own pairs and what was read after them.

    Args:
        query: [b, heads, t, head_dim].
        key: [b, kv_heads, s, head_dim] of what was read.
        value: likewise.
        mask: [b, 1, t, s], added to scores.
        scaling: of scores.
        own: of every key head; its group of query heads sees them at every position.

    Returns:
        [b, heads, t, head_dim].
    """
    group = query.shape[1] // key.shape[1]
    least = torch.finfo(query.dtype).min
    found = []
    for head, pairs in enumerate(own):
        queries = query[:, head * group : (head + 1) * group]
        hidden = mask.new_zeros(pairs.seen.shape).masked_fill(~pairs.seen, least)
        hidden = hidden[:, None, None].expand(-1, -1, mask.shape[2], -1)
        keys, values = (
            torch.cat([before, after[:, head]], dim=1)[:, None].expand(-1, group, -1, -1)
            for before, after in ((pairs.keys, key), (pairs.values, value))
        )
        whole = torch.cat([hidden, mask], dim=3)
        found.append(
            scaled_dot_product_attention(queries, keys, values, attn_mask=whole, scale=scaling)
        )
    return torch.cat(found, dim=1)
