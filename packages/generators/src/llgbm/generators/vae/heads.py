"""LatentHead: numbers of the global part from the whole, of each layer's code from the layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llgbm.generators.vae.encoders import Features
from llgbm.generators.vae.latent import LatentLayout


class LatentHead(nn.Module):
    """One linear map for the global part, one of its own for every layer.

    Args:
        layout: of the latent.
        width: of the features.
        zero: start at zero, as a log-variance does.
    """

    def __init__(self, layout: LatentLayout, width: int, zero: bool = False) -> None:
        super().__init__()
        self.layout = layout
        self.whole = nn.Linear(width, layout.global_dim)
        scale = 0.0 if zero else width**-0.5
        shape = (layout.layers, width, layout.layer_dim)
        self.by_layer = nn.Parameter(scale * torch.randn(shape)) if layout.layer_dim else None
        if zero:
            nn.init.zeros_(self.whole.weight)
            nn.init.zeros_(self.whole.bias)

    def forward(self, features: Features) -> Tensor:
        """Return [b, layout.size]."""
        whole = self.whole(features.whole)
        if self.by_layer is None:
            return whole
        return self.layout.join(whole, torch.bmm(features.by_layer, self.by_layer))
