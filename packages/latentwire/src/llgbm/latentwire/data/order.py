"""Which examples a step takes: a function of seed and step alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")


def drawn(items: Sequence[T], size: int, step: int, seed: int) -> list[T]:
    """Items of a step: each once an epoch, in an order of the epoch's own.

    Args:
        items: at least one.
        size: items of a step.
        step: from 0.
        seed: of the orders.
    """
    chosen = []
    for place in range(step * size, (step + 1) * size):
        epoch, index = divmod(place, len(items))
        chosen.append(items[_order(len(items), f"{seed}:order:{epoch}")[index]])
    return chosen


@lru_cache(maxsize=4)
def _order(count: int, seed: str) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return tuple(order)
