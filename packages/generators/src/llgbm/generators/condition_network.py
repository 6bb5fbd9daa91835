"""ConditionNetwork: one vector from a set of text embeddings."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.generators.conditions import ConditionBatch


@dataclass(frozen=True)
class ConditionNetworkConfig:
    """Sizes of a ConditionNetwork.

    Args:
        embedding_dim: of a text embedding; 384 for MiniLM-L6.
        hidden: units per text.
        heads: attention poolings, each over its own slice of the units; divides `hidden`.
        condition_dim: of the result.

    Raises:
        ValueError: `heads` does not divide `hidden`.
    """

    embedding_dim: int = 384
    hidden: int = 256
    heads: int = 4
    condition_dim: int = 256

    def __post_init__(self) -> None:
        if self.heads < 1 or self.hidden % self.heads:
            raise ValueError(
                f"heads: expected a divisor of hidden ({self.hidden}), got {self.heads}"
            )


class ConditionNetwork(nn.Module):
    """Per-text MLP, then the masked mean beside attention pooling, then an MLP.

    The mean keeps what all texts share, the attention what a few say clearly. Invariant
    under the order of the texts and under padding.
    """

    def __init__(self, config: ConditionNetworkConfig) -> None:
        super().__init__()
        self.config = config
        hidden = config.hidden
        self.per_text = nn.Sequential(
            nn.Linear(config.embedding_dim, hidden),
            nn.GELU(),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
        )
        # Without bias: the softmax over texts would cancel it.
        self.scores = nn.Linear(hidden, config.heads, bias=False)
        self.pooled = nn.Sequential(
            nn.Linear(2 * hidden, hidden),
            nn.GELU(),
            nn.Linear(hidden, config.condition_dim),
            nn.LayerNorm(config.condition_dim),
        )

    def forward(self, conditions: ConditionBatch) -> Tensor:
        """Encode sets.

        Args:
            conditions: embeddings [b, k, embedding_dim] float32 and mask [b, k].

        Returns:
            [b, condition_dim] float32.
        """
        # Embeddings have unit norm: entries of unit size suit the layers' initialisation.
        texts = conditions.embeddings * math.sqrt(self.config.embedding_dim)
        features = self.per_text(texts)
        mask = conditions.mask[..., None]
        mean = (features * mask).sum(1) / mask.sum(1)
        scores = self.scores(features).masked_fill(~mask, -torch.inf)
        shares = scores.softmax(dim=1)
        slices = features.unflatten(-1, (self.config.heads, -1))
        attended = (shares[..., None] * slices).sum(1).flatten(1)
        return self.pooled(torch.cat([mean, attended], dim=-1))
