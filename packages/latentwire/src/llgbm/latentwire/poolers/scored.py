"""What poolers that choose positions by a score share: standardised states, and the choice."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.poolers.base import Pooler

# Texts that the size of states is measured on.
MEASURED = 64


class ScoredPooler(Pooler):
    """A pooler that knows mean and size of every number of the states.

    Args:
        width: d of the states, and z of the latents.
    """

    mean: Tensor
    size: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("size", torch.ones(width))

    @torch.no_grad()
    def fit(self, encoder: Encoder, texts: Sequence[str]) -> None:
        """Measure mean and size of every number of the states, on the first texts."""
        total = square = torch.zeros_like(self.mean)
        count = 0
        for text in texts[:MEASURED]:
            values = encoder([text]).values[0]
            total, square = total + values.sum(0), square + values.square().sum(0)
            count += len(values)
        self.mean.copy_(total / count)
        self.size.copy_((square / count - self.mean.square()).clamp(min=1e-12).sqrt())

    def standard(self, values: Tensor) -> Tensor:
        """States [b, t, d] with mean 0 and size 1 in every number."""
        return (values - self.mean) / self.size


def passed(scores: Tensor) -> Tensor:
    """Factor that is 1 in the forward pass and tells scores what the kept states do to the loss."""
    gate = scores.sigmoid()
    return 1 + gate - gate.detach()


def chosen(scores: Tensor, lengths: Tensor, counts: Tensor) -> Tensor:
    """Positions [b, max(counts), ...] int64 with the highest scores of each row, ascending.

    Args:
        scores: [b, t, ...]; what follows the positions is chosen for by itself.
        lengths: [b] int64, positions of every text.
        counts: [b] int64, how many to choose; where that is more than there are, the last
            position stands for the rest.
    """
    shape = (len(scores), int(counts.max()), *scores.shape[2:])
    places = torch.zeros(shape, dtype=torch.long, device=scores.device)
    for row, (length, count) in enumerate(zip(lengths.tolist(), counts.tolist(), strict=True)):
        best = scores[row, :length].topk(min(length, count), dim=0).indices.sort(dim=0).values
        places[row, : len(best)] = best
        places[row, len(best) :] = length - 1
    return places
