"""How m slots are divided among key heads: some need every position of a text, most a few.

A slot holds one key and one value of every head; m slots have room for m times as many pairs as
there are heads, whoever's they are. The division is fixed for a compressor, so that latents need
not say whose their numbers are.
"""

from __future__ import annotations

import torch
from torch import Tensor


def head_counts(shares: Tensor, slots: int) -> Tensor:
    """Pairs of every head in so many slots, by largest remainders.

    Args:
        shares: [heads], at least 0, of mean 1: pairs a slot.
        slots: m.

    Returns:
        [heads] int64 on the CPU with sum heads * m.
    """
    wanted = shares.detach().double().cpu() * slots
    counts = wanted.floor().long()
    missing = len(shares) * slots - int(counts.sum())
    # Ties go to the first, here and on the other side.
    order = (wanted - counts).sort(descending=True, stable=True).indices
    counts[order[:missing]] += 1
    return counts


def owners(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Whose each pair is, in the order that slots hold them: head by head, in the text's order.

    Args:
        counts: [heads] int64.

    Returns:
        (head, place), each [sum of counts] int64: the head, and which of its pairs.
    """
    head = torch.repeat_interleave(torch.arange(len(counts)), counts)
    begin = counts.cumsum(0) - counts
    return head, torch.arange(len(head)) - begin[head]


def fitted_shares(received: list[Tensor], slots: list[int]) -> Tensor:
    """Shares of heads among the most looked at pairs of texts.

    Args:
        received: of every text [t, heads], the attention that positions received.
        slots: m of every text.

    Returns:
        [heads] float64 of mean 1.
    """
    total = torch.zeros(received[0].shape[1], dtype=torch.float64)
    for weights, count in zip(received, slots, strict=True):
        flat = weights.detach().double().cpu().flatten()
        best = flat.topk(min(count * weights.shape[1], len(flat))).indices
        held = torch.bincount(best % weights.shape[1], minlength=weights.shape[1])
        total += held.double() / held.sum()
    return total * (len(total) / total.sum())
