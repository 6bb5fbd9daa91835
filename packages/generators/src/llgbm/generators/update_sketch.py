"""UpdateSketch: k x k numbers of every update, without forming it and whatever its factors.

Pᵀ (s B A) Q with learned P and Q: linear in the update, free of the gauge of (A, B), and zero for
adapters that change nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.module_groups import module_groups, stack_group

# Divisors below this count as this: modules that no teacher trained.
SMALLEST_SCALE = 1e-12


class UpdateSketch(nn.Module):
    """Sketches of all modules of an adapter.

    Parameters: modules * (writers * out + readers * in).

    Args:
        spec: modules and rank.
        writers: columns of P.
        readers: columns of Q.

    Attributes:
        sketch_scale: buffer [modules], typical size of a sketch's entries.
    """

    sketch_scale: Tensor

    def __init__(self, spec: LoRASpec, writers: int, readers: int) -> None:
        super().__init__()
        self.spec = spec
        self.groups = module_groups(spec)
        self.readers = nn.ParameterList(
            torch.randn(len(group), group.in_features, readers) / math.sqrt(group.in_features)
            for group in self.groups
        )
        self.writers = nn.ParameterList(
            torch.randn(len(group), group.out_features, writers) / math.sqrt(group.out_features)
            for group in self.groups
        )
        # Until teachers say otherwise: entries of a sketch of a trained adapter.
        self.register_buffer("sketch_scale", torch.full((len(spec.modules),), 1e-2))
        order = torch.tensor([index for group in self.groups for index in group.indices])
        self.register_buffer("order", order.argsort(), persistent=False)

    def sketch(self, weights: LoRAWeights) -> Tensor:
        """Sketch every update.

        Args:
            weights: n adapters.

        Returns:
            [modules, n, writers, readers], not yet divided by `sketch_scale`.
        """
        sketches = []
        for group, reader, writer in zip(self.groups, self.readers, self.writers, strict=True):
            lora_A = stack_group(weights.lora_A, group)
            lora_B = stack_group(weights.lora_B, group)
            read = (lora_A.flatten(1, 2) @ reader).unflatten(1, lora_A.shape[1:3])
            written = lora_B.mT @ writer[:, None]
            sketches.append(written.mT @ read)
        order = self.get_buffer("order")
        return torch.cat(sketches)[order] * self.spec.scaling

    def scaled_sketch(self, weights: LoRAWeights) -> Tensor:
        """Sketches of unit size, [modules, n, writers, readers]."""
        return self.sketch(weights) / self.sketch_scale[:, None, None, None]

    @torch.no_grad()
    def fit_sketch_scale(self, teachers: LoRAWeights) -> None:
        """Read the sizes of sketches off n teachers."""
        on_device = teachers.to(device=self.sketch_scale.device, dtype=torch.float32)
        size = self.sketch(on_device).square().mean((1, 2, 3)).sqrt()
        # A module that no teacher trained keeps a sketch of zero at the size of the others.
        size = torch.where(size > SMALLEST_SCALE, size, size.max().clamp_min(SMALLEST_SCALE))
        self.sketch_scale.copy_(size)
