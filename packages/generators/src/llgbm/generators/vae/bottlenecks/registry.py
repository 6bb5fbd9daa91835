"""Bottlenecks by their configs."""

from __future__ import annotations

from llgbm.generators.vae.bottlenecks.base import Bottleneck
from llgbm.generators.vae.bottlenecks.deterministic import (
    DeterministicBottleneck,
    DeterministicConfig,
)
from llgbm.generators.vae.bottlenecks.finite_scalar import (
    FiniteScalarBottleneck,
    FiniteScalarConfig,
)
from llgbm.generators.vae.bottlenecks.gaussian import GaussianBottleneck, GaussianConfig
from llgbm.generators.vae.bottlenecks.vector_quantized import (
    VectorQuantizedBottleneck,
    VectorQuantizedConfig,
)
from llgbm.generators.vae.latent import LatentLayout

BottleneckConfig = GaussianConfig | VectorQuantizedConfig | FiniteScalarConfig | DeterministicConfig


def make_bottleneck(
    config: BottleneckConfig, layout: LatentLayout, width: int, condition_dim: int
) -> Bottleneck:
    """Build the bottleneck that reads `config`.

    Args:
        config: of the bottleneck.
        layout: of the latent.
        width: of the encoder's features.
        condition_dim: width of the condition.

    Raises:
        SettingError: sizes that do not fit, or a package that is not installed.
    """
    if isinstance(config, VectorQuantizedConfig):
        return VectorQuantizedBottleneck(config, layout, width, condition_dim)
    if isinstance(config, FiniteScalarConfig):
        return FiniteScalarBottleneck(config, layout, width, condition_dim)
    if isinstance(config, DeterministicConfig):
        return DeterministicBottleneck(config, layout, width)
    return GaussianBottleneck(config, layout, width)
