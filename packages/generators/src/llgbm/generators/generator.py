"""LoRAGenerator: from a batch of conditions to adapters and their predicted deltas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.module_files import (
    CONFIG,
    check_pair,
    fill_module,
    read_module_config,
    write_module,
)
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.condition_network import ConditionNetwork
from llgbm.generators.conditions import ConditionBatch
from llgbm.generators.decoders.registry import make_decoder
from llgbm.generators.delta_head import DeltaHead
from llgbm.generators.generator_config import (
    GeneratorConfig,
    describe_generator,
    read_description,
)

TENSORS = "generator.safetensors"


@dataclass(frozen=True)
class GeneratorOutput:
    """What a generator says of b conditions.

    Attributes:
        weights: n = b adapters.
        delta: [b, *delta_shape] float32, predicted from `weights`.
        condition: [b, condition_dim].
    """

    weights: LoRAWeights
    delta: Tensor
    condition: Tensor


class LoRAGenerator(nn.Module):
    """Set encoder -> decoder -> adapters -> delta head (seed 002's architecture).

    Args:
        config: parts and sizes.
        spec: modules and rank of the adapters.
        delta_shape: of one adapter's delta, [hidden] or [probes, layers, hidden].
        seed: of the initialisation; the global generator is left as it was.

    Attributes:
        metadata: JSON values that travel with the saved generator, such as the name and the
            fingerprint of the base model.
    """

    def __init__(
        self,
        config: GeneratorConfig,
        spec: LoRASpec,
        delta_shape: tuple[int, ...],
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.config, self.spec, self.delta_shape = config, spec, tuple(delta_shape)
        self.metadata: dict[str, Any] = {}
        # Layers initialise themselves from the global generator: lend it the seed.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.condition_network = ConditionNetwork(config.condition)
            self.decoder = make_decoder(config.decoder, spec, config.condition.condition_dim)
            self.delta_head = DeltaHead(config.delta_head, spec, self.delta_shape)

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, conditions: ConditionBatch) -> GeneratorOutput:
        """Write one adapter per condition and predict its delta.

        Args:
            conditions: b conditions on the generator's device.
        """
        condition = self.condition_network(conditions)
        weights = self.decoder(condition)
        return GeneratorOutput(weights, self.delta_head(weights), condition)

    def write(self, conditions: ConditionBatch) -> LoRAWeights:
        """Write adapters only: without the delta head and without gradient."""
        with torch.no_grad():
            return self.decoder(self.condition_network(conditions))

    def fit_scales(self, teachers: LoRAWeights, deltas: Tensor) -> None:
        """Read off the training teachers where A starts and how large everything is.

        Args:
            teachers: n training teachers, none of them held out.
            deltas: [n, *delta_shape].

        Raises:
            ValueError: another spec or shape, NaN or Inf.
        """
        self.decoder.set_base(teachers)
        self.decoder.fit_scales(teachers)
        self.delta_head.fit_scales(teachers, deltas)

    def save(self, path: Path | str, metadata: Mapping[str, Any] | None = None) -> None:
        """Write generator.safetensors and config.json, each atomically, the tensors first.

        Args:
            path: folder, made where missing; other files in it stay.
            metadata: replaces the generator's own where given.
        """
        if metadata is not None:
            self.metadata = dict(metadata)
        description = describe_generator(self.config, self.spec, self.delta_shape)
        write_module(self, Path(path), TENSORS, description, self.metadata)

    @classmethod
    def load(cls, path: Path | str) -> LoRAGenerator:
        """Read a generator that `save` wrote, on the CPU.

        Raises:
            RunError: missing, damaged or half-written files, keys or shapes that do not fit,
                NaN or Inf.
        """
        folder = Path(path)
        content, metadata = read_module_config(folder, "llgbm train")
        config, spec, delta_shape = read_description(content, folder / CONFIG)
        check_pair(folder / TENSORS, content)
        generator = cls(config, spec, delta_shape)
        generator.metadata = metadata
        fill_module(generator, folder / TENSORS)
        return generator
