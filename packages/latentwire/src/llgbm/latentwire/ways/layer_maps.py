"""From slots to something for every layer: one shared trunk, one linear map a layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm


class LayerMaps(nn.Module):
    """Vectors of slots to one vector a layer, of given mean and size at the start.

    The trunk's `hidden` features are few, which keeps the maps small: a layer costs
    hidden * out parameters.

    Args:
        width: z of the slots.
        hidden: features of the trunk.
        means: a layer's [out] float32: what it returns on average at the start.
        sizes: a layer's [out] float32: standard deviation around that mean at the start.
    """

    def __init__(
        self, width: int, hidden: int, means: Sequence[Tensor], sizes: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU())
        self.layers = nn.ModuleList(nn.Linear(hidden, len(mean)) for mean in means)
        with torch.no_grad():
            for layer, mean, size in zip(self.layers, means, sizes, strict=True):
                assert isinstance(layer, nn.Linear)
                weight = torch.randn(layer.weight.shape) / hidden**0.5
                layer.weight.copy_(weight * size[:, None].cpu())
                layer.bias.copy_(mean)

    def forward(self, values: Tensor) -> list[Tensor]:
        """Vectors [..., out] of every layer for slots [..., z], float32."""
        features = self.trunk(values)
        features = layer_norm(features, features.shape[-1:])
        return [layer(features) for layer in self.layers]
