"""A small transformer over the slots of a text, added to them (seed 004, "latent refiner")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, softplus

from llgbm.latentwire.attention_heads import split_heads
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.refiners.base import REFINERS, Refiner


@REFINERS.register("transformer")
@dataclass(frozen=True)
class TransformerRefinerConfig:
    """Pre-norm blocks over slots.

    Args:
        layers: blocks.
        heads: attention heads; must divide the width of the latents.
        hidden: width of the MLPs over that of the latents.
        scale: size of what is added at the start, over that of the latents.
    """

    layers: int = 2
    heads: int = 8
    hidden: float = 2.0
    scale: float = 0.1

    def build(self, width: int) -> TransformerRefiner:
        """Build it.

        Raises:
            ConfigError: no layers, heads that do not divide the width, or a scale of 0.
        """
        if self.layers < 1 or self.hidden <= 0 or self.scale == 0:
            raise ConfigError(
                "refiner: expected layers of at least 1, hidden above 0 and scale not 0, "
                f"got {self.layers}, {self.hidden:g}, {self.scale:g}"
            )
        if self.heads < 1 or width % self.heads:
            raise ConfigError(f"refiner.heads: expected a divisor of {width}, got {self.heads}")
        return TransformerRefiner(self, width)


class TransformerRefiner(Refiner):
    """z + scale * size(z) * blocks(z / size(z)), with size the root mean square of a text's slots.

    Latents as large as a reader's embeddings are far below 1: without their size, what blocks
    add would drown them.
    """

    def __init__(self, config: TransformerRefinerConfig, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config, width) for _ in range(config.layers))
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.scale = nn.Parameter(torch.tensor(float(config.scale)))

    def forward(self, latents: Latents) -> Latents:
        """See `Refiner.forward`."""
        values, mask = latents.values, latents.mask
        real = mask[..., None].to(values.dtype)
        entries = real.sum((1, 2), keepdim=True) * values.shape[-1]
        mean_square = (values * real).square().sum((1, 2), keepdim=True) / entries.clamp(min=1)
        size = (mean_square + 1e-12).sqrt()
        states = values / size
        for block in self.blocks:
            states = block(states, mask)
        return latents.replaced(values + self.scale * size * self.last(states))


class Block(nn.Module):
    """Attention among real slots, nearer ones first, and an MLP.

    Slots are told apart by distance alone: a head subtracts slope * |i - j| from its scores, with
    a learned slope, so any number of slots will do.
    """

    def __init__(self, config: TransformerRefinerConfig, width: int) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(width)
        self.query, self.key, self.value, self.merge = (
            nn.Linear(width, width, bias=False) for _ in range(4)
        )
        hidden = round(config.hidden * width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )
        # Slopes from about 1.3 down to 0.05: some heads look near, some everywhere.
        self.slope = nn.Parameter(torch.linspace(1.0, -3.0, config.heads))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """States [b, m, z] of slots with mask [b, m]; what stands at masked slots is never read."""
        normed = self.norm(states)
        place = torch.arange(states.shape[1], device=states.device)
        distance = (place[:, None] - place[None, :]).abs().to(states.dtype)
        bias = -softplus(self.slope)[:, None, None] * distance
        bias = bias.expand(len(states), -1, -1, -1)
        looked = scaled_dot_product_attention(
            split_heads(self.query(normed), self.heads),
            split_heads(self.key(normed), self.heads),
            split_heads(self.value(normed), self.heads),
            attn_mask=bias.masked_fill(~mask[:, None, None, :], -torch.inf),
        )
        states = states + self.merge(looked.transpose(1, 2).flatten(2))
        return states + self.mlp(states)
