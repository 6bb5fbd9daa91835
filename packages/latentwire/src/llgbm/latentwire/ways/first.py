"""Learned keys and values before all slots, started as those of a text's first token.

Readers send attention to their first position where there is nothing to look for; without one
they would send it to whatever the first slot holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class First(nn.Module):
    """One position for every layer; none at all where `states` is empty.

    Args:
        states: a layer's [2, kv_heads, head_dim]: key and value of a first token.
    """

    def __init__(self, states: Sequence[Tensor] = ()) -> None:
        super().__init__()
        self.states = nn.ParameterList(nn.Parameter(each.clone()) for each in states)

    @property
    def count(self) -> int:
        """Positions that it adds, 0 or 1."""
        return min(1, len(self.states))

    def mask(self, mask: Tensor) -> Tensor:
        """Mask [b, count + m] of slots [b, m] behind it."""
        return torch.cat([mask.new_ones(len(mask), self.count), mask], dim=1)

    def before(self, layer: int, states: Tensor) -> Tensor:
        """[b, count + m, 2, kv_heads, head_dim] of slots [b, m, 2, kv_heads, head_dim]."""
        if not self.count:
            return states
        first = self.states[layer].expand(len(states), 1, *states.shape[2:])
        return torch.cat([first, states], dim=1)
