"""Batches of vectors with a mask: what encoders, poolers and adapters hand to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class States:
    """What an encoder says of a batch of texts, one vector a position.

    Attributes:
        values: [b, t, d] float32.
        mask: [b, t] bool, True on real positions; they stand first, padding follows.
        inputs: [b, t, h] float32, the reader's own embeddings at these positions, where the
            encoder reads the reader's tokens.
        received: [b, t, layers, kv_heads] float32, attention that positions received
            (`attention_received`), where the encoder asks for it.
    """

    values: Tensor
    mask: Tensor
    inputs: Tensor | None = None
    received: Tensor | None = None

    @property
    def lengths(self) -> Tensor:
        """[b] int64, real positions of every text."""
        return self.mask.sum(1)


@dataclass(frozen=True)
class Latents:
    """What stands for a batch of texts.

    Attributes:
        values: [b, m, z] float32; zero where the mask is False.
        mask: [b, m] bool, True on real slots; they stand first, padding follows.
        scores: [b, t] float32 of the text's positions, where a pooler chose among them; for
            losses, and not a part of what is sent.
    """

    values: Tensor
    mask: Tensor
    scores: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """[b] int64, real slots of every text."""
        return self.mask.sum(1)

    def row(self, index: int) -> Tensor:
        """Real slots of one text, [m, z]."""
        return self.values[index, self.mask[index]]

    def rows(self, indices: Sequence[int]) -> Latents:
        """Those of some texts, each as often as it is named."""
        places = torch.tensor(indices, device=self.mask.device)
        scores = None if self.scores is None else self.scores[places]
        return Latents(self.values[places], self.mask[places], scores)

    def replaced(self, values: Tensor) -> Latents:
        """The same slots with other values; padding is zero again."""
        return Latents(values * self.mask[..., None], self.mask)


def slot_mask(counts: Tensor) -> Tensor:
    """Mask [b, max(counts)] with the first counts[i] slots of row i True."""
    return torch.arange(int(counts.max()), device=counts.device)[None, :] < counts[:, None]


def stack(rows: list[Tensor]) -> Latents:
    """Latents of texts given one by one, each [m_i, z]."""
    counts = torch.tensor([len(row) for row in rows], device=rows[0].device)
    values = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    return Latents(values, slot_mask(counts))


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean [b, d] over the True positions of [b, t, d]; zero where there are none."""
    weights = mask[..., None].to(values.dtype)
    return (values * weights).sum(1) / weights.sum(1).clamp(min=1)
