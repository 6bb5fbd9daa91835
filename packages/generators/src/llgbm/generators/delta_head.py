"""DeltaHead: predicts an adapter's delta from its weights, without running the base model.

Source: seed 002, "Delta Head": a small MLP on the generated LoRA tokens. A module's token is
here a sketch of its update (`UpdateSketch`): to first order a delta is linear in the updates.
The condition is not an input: what the head says of an adapter follows from the adapter alone, so
it can be asked about teachers too.
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
from llgbm.generators.update_sketch import SMALLEST_SCALE, UpdateSketch


@dataclass(frozen=True)
class DeltaHeadConfig:
    """Sizes of a DeltaHead.

    Args:
        sketch: k, columns of P and Q.
        hidden: units of the MLP.
    """

    sketch: int = 4
    hidden: int = 256


class DeltaHead(UpdateSketch):
    """Sketches of all modules -> MLP -> delta; its last layer starts at zero.

    Parameters: about modules * sketch * (in + out) + hidden * (modules * sketch² + 2 * numbers
    in a delta).

    Args:
        config: sizes.
        spec: modules and rank.
        delta_shape: shape of one adapter's delta, [hidden] or [probes, layers, hidden].

    Attributes:
        delta_scale: buffer, [layers, 1] or [], typical size of a delta's entries in each layer.
    """

    delta_scale: Tensor

    def __init__(
        self, config: DeltaHeadConfig, spec: LoRASpec, delta_shape: tuple[int, ...]
    ) -> None:
        k = config.sketch
        super().__init__(spec, k, k)
        self.config, self.delta_shape = config, tuple(delta_shape)
        self.inner = nn.Linear(len(spec.modules) * k * k, config.hidden)
        self.outer = nn.Linear(2 * config.hidden, math.prod(self.delta_shape))
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        # Until teachers say otherwise: entries of a delta.
        layers = torch.zeros(1, *self.delta_shape)
        self.register_buffer("delta_scale", torch.full_like(layer_rms(layers), 0.1))

    def forward(self, weights: LoRAWeights) -> Tensor:
        """Predict deltas.

        Args:
            weights: n adapters.

        Returns:
            [n, *delta_shape] float32.
        """
        hidden = self.inner(self.scaled_sketch(weights).transpose(0, 1).flatten(1))
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
            ValueError: deltas of another shape, NaN or Inf.
        """
        check_deltas(deltas, (teachers.n, *self.delta_shape))
        self.fit_sketch_scale(teachers)
        self.delta_scale.copy_(layer_rms(deltas).clamp_min(SMALLEST_SCALE))


def check_deltas(deltas: Tensor, expected: tuple[int, ...]) -> None:
    """Raise ValueError unless `deltas` are finite and of the shape `expected`."""
    if tuple(deltas.shape) != expected:
        raise ValueError(f"deltas: expected shape {expected}, got {tuple(deltas.shape)}")
    if not torch.isfinite(deltas).all():
        raise ValueError("deltas: expected finite values, got NaN or Inf")
