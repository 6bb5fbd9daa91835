"""DeltaHead: predicts an adapter's delta from its weights, without running the base model.

Source: seed 002, "Delta Head": a small MLP on the generated LoRA tokens. A module's token is
here a k x k sketch of its update, Pᵀ (s B A) Q with learned P and Q: to first order a delta is
linear in the updates, the sketch does not depend on the gauge of (A, B), it never forms B A,
and adapters that change nothing have a sketch of zero. The condition is not an input: what the
head says of an adapter follows from the adapter alone, so it can be asked about teachers too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llgbm.deltas.by_layer import layer_rms
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.module_groups import module_groups, stack_group

# Divisors below this count as this: modules that no teacher trained, deltas of nothing.
SMALLEST_SCALE = 1e-12


@dataclass(frozen=True)
class DeltaHeadConfig:
    """Sizes of a DeltaHead.

    Args:
        sketch: k, columns of P and Q.
        hidden: units of the MLP.
    """

    sketch: int = 4
    hidden: int = 256


class DeltaHead(nn.Module):
    """Sketches of all modules -> MLP -> delta; its last layer starts at zero.

    Parameters: about modules * sketch * (in + out) + hidden * (modules * sketch² + 2 * numbers
    in a delta).

    Args:
        config: sizes.
        spec: modules and rank.
        delta_shape: shape of one adapter's delta, [hidden] or [probes, layers, hidden].

    Attributes:
        sketch_scale: buffer [modules], typical size of a sketch's entries.
        delta_scale: buffer, [layers, 1] or [], typical size of a delta's entries in each layer.
    """

    sketch_scale: Tensor
    delta_scale: Tensor

    def __init__(
        self, config: DeltaHeadConfig, spec: LoRASpec, delta_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.config, self.spec, self.delta_shape = config, spec, tuple(delta_shape)
        self.groups = module_groups(spec)
        k, modules = config.sketch, len(spec.modules)
        self.readers = nn.ParameterList(
            torch.randn(len(group), group.in_features, k) / math.sqrt(group.in_features)
            for group in self.groups
        )
        self.writers = nn.ParameterList(
            torch.randn(len(group), group.out_features, k) / math.sqrt(group.out_features)
            for group in self.groups
        )
        self.inner = nn.Linear(modules * k * k, config.hidden)
        self.outer = nn.Linear(2 * config.hidden, math.prod(self.delta_shape))
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        # Until teachers say otherwise: entries of a sketch of a trained adapter, and of a delta.
        self.register_buffer("sketch_scale", torch.full((modules,), 1e-2))
        layers = torch.zeros(1, *self.delta_shape)
        self.register_buffer("delta_scale", torch.full_like(layer_rms(layers), 0.1))
        order = torch.tensor([index for group in self.groups for index in group.indices])
        self.register_buffer("order", order.argsort(), persistent=False)

    def sketch(self, weights: LoRAWeights) -> Tensor:
        """Sketch every update.

        Args:
            weights: n adapters.

        Returns:
            [modules, n, k, k], not yet divided by `sketch_scale`.
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

    def forward(self, weights: LoRAWeights) -> Tensor:
        """Predict deltas.

        Args:
            weights: n adapters.

        Returns:
            [n, *delta_shape] float32.
        """
        sketches = self.sketch(weights) / self.sketch_scale[:, None, None, None]
        hidden = self.inner(sketches.transpose(0, 1).flatten(1))
        # The linear part carries the first order, the other what goes beyond it.
        predicted = self.outer(torch.cat([hidden, F.gelu(hidden)], dim=-1))
        return predicted.unflatten(-1, self.delta_shape) * self.delta_scale

    @torch.no_grad()
    def fit_scales(self, teachers: LoRAWeights, deltas: Tensor) -> None:
        """Read the sizes of sketches and deltas off the teachers.

        Args:
            teachers: n adapters.
            deltas: [n, *delta_shape].

        Raises:
            ValueError: deltas of another shape.
        """
        expected = (teachers.n, *self.delta_shape)
        if tuple(deltas.shape) != expected:
            raise ValueError(f"deltas: expected shape {expected}, got {tuple(deltas.shape)}")
        on_device = teachers.to(device=self.sketch_scale.device, dtype=torch.float32)
        size = self.sketch(on_device).square().mean((1, 2, 3)).sqrt()
        # A module that no teacher trained keeps a sketch of zero at the size of the others.
        size = torch.where(size > SMALLEST_SCALE, size, size.max().clamp_min(SMALLEST_SCALE))
        self.sketch_scale.copy_(size)
        self.delta_scale.copy_(layer_rms(deltas).clamp_min(SMALLEST_SCALE))
