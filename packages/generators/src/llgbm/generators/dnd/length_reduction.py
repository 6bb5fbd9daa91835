"""LengthReduction: long prompts made shorter by two linears, as DnD's 1.5B generators do."""

from __future__ import annotations

from torch import Tensor, nn


class LengthReduction(nn.Module):
    """From [b, prompts, length, width] to [b, prompts, reduced, width].

    The published generators view a prompt's states [length, width] as [width, length] where a
    transpose is meant, so each linear mixes runs of neighbouring numbers and not one channel
    over tokens. It is kept: their weights were trained with it.

    Args:
        length: tokens of a prompt.
        reduced: tokens afterwards.

    Source: arXiv 2506.16406 (DnD), Qwen2.5-1.5B generators.
    """

    def __init__(self, length: int, reduced: int) -> None:
        super().__init__()
        self.shorten = nn.Linear(length, reduced)
        self.mix = nn.Linear(reduced, reduced)
        # As published: far larger than usual, and made small again by the first LayerNorm.
        nn.init.normal_(self.shorten.weight)
        nn.init.normal_(self.mix.weight)

    def forward(self, states: Tensor) -> Tensor:
        """Apply to [b, prompts, length, width]."""
        b, prompts, length, width = states.shape
        viewed = states.reshape(b, prompts, width, length)
        return self.mix(self.shorten(viewed)).view(b, prompts, -1, width)
