"""LatentTrunk: what a decoder of the generators' family reads in place of a condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llgbm.deltas.spec import LoRASpec
from llgbm.generators.decoders.trunk import ModuleTrunk
from llgbm.generators.vae.encoders import layer_places
from llgbm.generators.vae.latent import LatentLayout


class LatentTrunk(nn.Module):
    """One vector per module from z: an MLP of the global part, and linear maps of all of it.

    The linear maps are what lets a decoder of linear heads rebuild updates whose latents it has
    never seen; the MLP, which normalises, tells which adapters there are.

    Args:
        spec: modules.
        layout: of the latent.
        width: of a module's vector.
        blocks: residual blocks of the MLP.
        own_maps: a linear map for each module; one that all share where False, with a fortieth of
            the parameters at most.
    """

    def __init__(
        self, spec: LoRASpec, layout: LatentLayout, width: int, blocks: int, own_maps: bool
    ) -> None:
        super().__init__()
        self.layout = layout
        self.register_buffer("places", torch.tensor(layer_places(spec)), persistent=False)
        self.told = ModuleTrunk(len(spec.modules), layout.global_dim, width, blocks)
        read = layout.global_dim + layout.layer_dim
        count = len(spec.modules) if own_maps else 1
        self.maps = nn.Parameter(torch.randn(count, read, width) / read**0.5)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Read latents [b, size]; see ModuleTrunk."""
        whole, by_layer = self.layout.split(z)
        tokens, seen = self.told(whole)
        modules = tokens.shape[0]
        read = whole.expand(modules, -1, -1)
        if by_layer is not None:
            read = torch.cat([read, by_layer[self.get_buffer("places")]], dim=-1)
        return tokens + torch.bmm(read, self.maps.expand(modules, -1, -1)), seen
