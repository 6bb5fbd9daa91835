"""DeltaPredictor: from a condition to the delta that its adapter should have (variant B2).

Source: seed 001, phase 5, variant B2: g(condition) -> delta. No weights are generated, so it is
also the floor that a generator has to beat.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llgbm.deltas.by_layer import layer_rms
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.module_files import (
    CONFIG,
    check_pair,
    fill_module,
    read_module_config,
    write_module,
)
from llgbm.generators.condition_network import ConditionNetwork, ConditionNetworkConfig
from llgbm.generators.conditions import ConditionBatch
from llgbm.generators.delta_head import check_deltas
from llgbm.generators.text_encoder import PACKAGED_ENCODER

TENSORS, FORMAT = "predictor.safetensors", 2


@dataclass(frozen=True)
class DeltaPredictorConfig:
    """Sizes of a DeltaPredictor.

    Args:
        condition: of the set encoder.
        hidden: units of the MLP.
        text_encoder: whose embeddings it reads.
    """

    condition: ConditionNetworkConfig = field(default_factory=ConditionNetworkConfig)
    hidden: int = 256
    text_encoder: str = PACKAGED_ENCODER


class DeltaPredictor(nn.Module):
    """Set encoder -> MLP -> delta; untrained it says the teachers' mean whatever the condition.

    Args:
        config: sizes.
        delta_shape: of one adapter's delta.
        seed: of the initialisation.

    Attributes:
        mean: buffer [*delta_shape], mean delta of the teachers.
        scale: buffer, [layers, 1] or [], typical size of a delta's deviation from it by layer.
        metadata: JSON values that travel with the saved predictor.
    """

    mean: Tensor
    scale: Tensor

    def __init__(
        self, config: DeltaPredictorConfig, delta_shape: tuple[int, ...], seed: int = 0
    ) -> None:
        super().__init__()
        self.config, self.delta_shape = config, tuple(delta_shape)
        self.metadata: dict[str, Any] = {}
        size = math.prod(self.delta_shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.condition_network = ConditionNetwork(config.condition)
            self.inner = nn.Linear(config.condition.condition_dim, config.hidden)
            self.outer = nn.Linear(config.hidden, size)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        mean = torch.zeros(self.delta_shape)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", torch.ones_like(layer_rms(mean[None])))

    def forward(self, conditions: ConditionBatch) -> Tensor:
        """Predict deltas.

        Args:
            conditions: b conditions.

        Returns:
            [b, *delta_shape] float32.
        """
        hidden = F.gelu(self.inner(self.condition_network(conditions)))
        moved = self.outer(hidden).unflatten(-1, self.delta_shape)
        return self.mean + moved * self.scale

    @torch.no_grad()
    def fit_scales(self, deltas: Tensor) -> None:
        """Read the mean and the size of deviations off the teachers' deltas [N, *delta_shape].

        Raises:
            ValueError: another shape, NaN or Inf.
        """
        check_deltas(deltas, (len(deltas), *self.delta_shape))
        self.mean.copy_(deltas.mean(0))
        self.scale.copy_(layer_rms(deltas - deltas.mean(0)))

    def save(self, folder: Path) -> None:
        """Write predictor.safetensors and config.json."""
        description = {
            "format": FORMAT,
            "kind": "delta_predictor",
            "hidden": self.config.hidden,
            "text_encoder": self.config.text_encoder,
            "condition": asdict(self.config.condition),
            "delta_shape": list(self.delta_shape),
        }
        write_module(self, folder, TENSORS, description, self.metadata)

    @classmethod
    def load(cls, folder: Path) -> DeltaPredictor:
        """Read a predictor that `save` wrote.

        Raises:
            RunError: missing, damaged or half-written files, or ones of another kind.
        """
        content, metadata = read_module_config(folder, "llgbm train-retriever")
        file = folder / CONFIG
        if (content.get("format"), content.get("kind")) != (FORMAT, "delta_predictor"):
            found = (content.get("format"), content.get("kind"))
            raise RunError(mismatch(file, "kind", (FORMAT, "delta_predictor"), found))
        check_pair(folder / TENSORS, content)
        names = {f.name for f in fields(ConditionNetworkConfig)}
        try:
            if set(content["condition"]) != names:
                raise ValueError(f"condition: expected {sorted(names)}")
            config = DeltaPredictorConfig(
                ConditionNetworkConfig(**{k: int(v) for k, v in content["condition"].items()}),
                int(content["hidden"]),
                str(content["text_encoder"]),
            )
            predictor = cls(config, tuple(int(size) for size in content["delta_shape"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RunError(f"{file}: expected the sizes of a predictor, got {error!r}") from error
        predictor.metadata = metadata
        fill_module(predictor, folder / TENSORS)
        return predictor
