"""ModuleTrunk: one vector per module from the condition, by an MLP that all modules share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class FiLMBlock(nn.Module):
    """Residual MLP whose hidden units the condition scales and shifts.

    Args:
        width: of the residual stream.
        hidden: units in between.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, hidden)
        self.film = nn.Linear(width, 2 * hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """Apply to tokens [modules, 1 or b, width] and condition [b, width]."""
        scale, shift = self.film(condition).chunk(2, dim=-1)
        hidden = self.inner(self.norm(tokens)) * (1 + scale) + shift
        return tokens + self.outer(F.gelu(hidden))


class ModuleTrunk(nn.Module):
    """Learned module embeddings, modulated by the condition in residual FiLM blocks.

    Args:
        modules: number of modules.
        condition_dim: width of the condition.
        width: of a module's vector.
        blocks: residual blocks.
    """

    def __init__(self, modules: int, condition_dim: int, width: int, blocks: int) -> None:
        super().__init__()
        self.condition = nn.Sequential(
            nn.Linear(condition_dim, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width)
        )
        self.embedding = nn.Parameter(torch.randn(modules, width))
        self.blocks = nn.ModuleList(FiLMBlock(width, 2 * width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Run the trunk.

        Args:
            condition: [b, condition_dim].

        Returns:
            One vector per module, [modules, b, width], and the condition as all modules see
            it, [b, width]; both normalised.
        """
        seen = self.condition(condition)
        # Until the first block the stream does not depend on the item: it stays [modules, 1, .].
        tokens = self.embedding[:, None]
        for block in self.blocks:
            tokens = block(tokens, seen)
        return self.norm(tokens).expand(-1, condition.shape[0], -1), seen
