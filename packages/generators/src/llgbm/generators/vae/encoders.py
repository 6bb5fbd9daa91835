"""What a latent is read off: the condition alone, or the adapter beside it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llgbm.deltas.errors import require_at_least
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.update_sketch import UpdateSketch


@dataclass(frozen=True)
class Features:
    """What a bottleneck reads.

    Attributes:
        whole: [b, width].
        by_layer: [layers, b, width].
    """

    whole: Tensor
    by_layer: Tensor


def layer_places(spec: LoRASpec) -> list[int]:
    """Return for each module the place of its layer among the layers that have modules."""
    numbers = [module.layer for module in spec.modules]
    order = sorted(set(numbers))
    return [order.index(number) for number in numbers]


def layer_count(spec: LoRASpec) -> int:
    """Number of layers that have modules."""
    return len({module.layer for module in spec.modules})


@dataclass(frozen=True)
class ConditionEncoderConfig:
    """The seed's encoder, q(z | condition): what it cannot say of an adapter is averaged.

    Args:
        width: units, and numbers of the features.
    """

    width: int = 512

    def __post_init__(self) -> None:
        require_at_least(1, width=self.width)


class ConditionEncoder(nn.Module):
    """Two layers on the condition (seed 000, 2a), and a copy of theirs for every layer.

    Args:
        config: sizes.
        spec: modules.
        condition_dim: width of the condition.
    """

    reads_adapters = False

    def __init__(self, config: ConditionEncoderConfig, spec: LoRASpec, condition_dim: int) -> None:
        super().__init__()
        self.layers = layer_count(spec)
        self.inner = nn.Linear(condition_dim, config.width)
        self.outer = nn.Linear(config.width, config.width)

    def forward(self, condition: Tensor, adapters: LoRAWeights | None = None) -> Features:
        """Read conditions [b, condition_dim]; adapters are not looked at."""
        whole = F.gelu(self.outer(F.gelu(self.inner(condition))))
        return Features(whole, whole.expand(self.layers, -1, -1))


@dataclass(frozen=True)
class AdapterEncoderConfig:
    """q(z | adapter, condition): reads what the adapter does, not how it is factored.

    Args:
        width: numbers of the features.
        writers: columns of a module's sketch on the side of its outputs.
        readers: columns on the side of its inputs; r of them see all rows of a shared A.
    """

    width: int = 256
    writers: int = 16
    readers: int = 8

    def __post_init__(self) -> None:
        require_at_least(1, width=self.width, writers=self.writers, readers=self.readers)


class AdapterEncoder(UpdateSketch):
    """Sketches of updates -> features of layers -> features of the whole.

    Each feature comes as it is and through a GELU: what a decoder of linear heads needs is linear
    in the updates.

    Args:
        config: sizes.
        spec: modules.
        condition_dim: width of the condition.
    """

    reads_adapters = True

    def __init__(self, config: AdapterEncoderConfig, spec: LoRASpec, condition_dim: int) -> None:
        super().__init__(spec, config.writers, config.readers)
        self.register_buffer("places", torch.tensor(layer_places(spec)), persistent=False)
        self.layers = layer_count(spec)
        numbers, modules = config.writers * config.readers, len(spec.modules)
        half = max(1, config.width // 2)
        self.modules_in = nn.Parameter(torch.randn(modules, numbers, half) / numbers**0.5)
        self.condition_in = nn.Linear(condition_dim, half)
        self.layers_out = nn.Parameter(torch.randn(self.layers, 2 * half, half) / (2 * half) ** 0.5)
        self.width_out = nn.Linear(2 * half, config.width)
        self.whole_out = nn.Linear(2 * half, config.width)

    def forward(self, condition: Tensor, adapters: LoRAWeights | None = None) -> Features:
        """Read adapters of the spec, n = b, and conditions [b, condition_dim].

        Raises:
            ValueError: no adapters, or another number of them.
        """
        if adapters is None or adapters.n != condition.shape[0]:
            got = "none" if adapters is None else adapters.n
            raise ValueError(f"adapters: expected {condition.shape[0]}, one a condition, got {got}")
        sketches = self.scaled_sketch(adapters).flatten(2)
        of_modules = torch.bmm(sketches, self.modules_in)
        places = self.get_buffer("places")
        shape = (self.layers, *of_modules.shape[1:])
        counts = torch.bincount(places, minlength=self.layers).to(of_modules)
        summed = of_modules.new_zeros(shape).index_add(0, places, of_modules)
        by_layer = summed / counts.sqrt()[:, None, None]
        told = self.condition_in(condition)
        joined = torch.cat([by_layer, F.gelu(by_layer + told)], dim=-1)
        pooled = torch.bmm(joined, self.layers_out).sum(0) / self.layers**0.5
        whole = torch.cat([pooled, F.gelu(pooled + told)], dim=-1)
        return Features(self.whole_out(whole), self.width_out(joined))


EncoderConfig = ConditionEncoderConfig | AdapterEncoderConfig


def make_encoder(
    config: EncoderConfig, spec: LoRASpec, condition_dim: int
) -> ConditionEncoder | AdapterEncoder:
    """Build the encoder that reads `config`."""
    if isinstance(config, AdapterEncoderConfig):
        return AdapterEncoder(config, spec, condition_dim)
    return ConditionEncoder(config, spec, condition_dim)
