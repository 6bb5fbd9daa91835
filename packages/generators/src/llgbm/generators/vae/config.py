"""VAEConfig: what a VAE over adapters is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from llgbm.deltas.errors import require_at_least
from llgbm.generators.condition_network import ConditionNetworkConfig
from llgbm.generators.decoders.full_width import FullWidthConfig
from llgbm.generators.decoders.periodic import PeriodicConfig
from llgbm.generators.extras import flows, quantizers
from llgbm.generators.text_encoder import PACKAGED_ENCODER
from llgbm.generators.vae.bottlenecks.finite_scalar import FiniteScalarConfig
from llgbm.generators.vae.bottlenecks.gaussian import GaussianConfig
from llgbm.generators.vae.bottlenecks.registry import BottleneckConfig
from llgbm.generators.vae.bottlenecks.vector_quantized import VectorQuantizedConfig
from llgbm.generators.vae.encoders import (
    AdapterEncoderConfig,
    ConditionEncoderConfig,
    EncoderConfig,
)
from llgbm.generators.vae.priors.flow import FlowPriorConfig
from llgbm.generators.vae.priors.normal import NormalPriorConfig
from llgbm.generators.vae.priors.registry import PriorConfig


@dataclass(frozen=True)
class VAEConfig:
    """What a VAE is made of, apart from the base model it writes for.

    Args:
        latent_dim: numbers of the global part of z.
        layer_code_dim: numbers of each layer's code; 0 for a flat latent.
        encoder: what z is read off: condition and adapter, or the condition alone (the seed's).
        bottleneck: Gaussian, vector quantized, finite scalar, or deterministic (the control).
        prior: p(z | condition); discrete bottlenecks tell codes from conditions by a classifier
            instead.
        decoder: of the generators' family.
        own_maps: read z by linear maps of each module's own; see LatentTrunk.
        delta_hidden: units of the delta decoder.
        condition: sizes of the set encoder.
        text_encoder: name of the encoder whose embeddings it reads; a training's `encoder`.
    """

    latent_dim: int = 64
    layer_code_dim: int = 0
    encoder: EncoderConfig = field(default_factory=AdapterEncoderConfig)
    bottleneck: BottleneckConfig = field(default_factory=GaussianConfig)
    prior: PriorConfig = field(default_factory=NormalPriorConfig)
    decoder: FullWidthConfig | PeriodicConfig = field(default_factory=FullWidthConfig)
    own_maps: bool = True
    delta_hidden: int = 512
    condition: ConditionNetworkConfig = field(default_factory=ConditionNetworkConfig)
    text_encoder: Annotated[str, tyro.conf.Suppress] = PACKAGED_ENCODER

    def __post_init__(self) -> None:
        require_at_least(1, latent_dim=self.latent_dim, delta_hidden=self.delta_hidden)
        require_at_least(0, layer_code_dim=self.layer_code_dim)

    def require_packages(self) -> None:
        """Ask for what its parts import only when they are built, maybe hours later.

        Raises:
            SettingError: an optional package is not installed.
        """
        if isinstance(self.bottleneck, VectorQuantizedConfig | FiniteScalarConfig):
            quantizers()
        if isinstance(self.prior, FlowPriorConfig):
            flows()


# Seed 000, "Parameter budget": about 3.6 M trainable parameters at Qwen2.5-0.5B.
SEED_VAE = VAEConfig(
    layer_code_dim=32,
    encoder=ConditionEncoderConfig(width=384),
    prior=NormalPriorConfig(conditional=False),
    decoder=PeriodicConfig(hidden=256, blocks=1),
    own_maps=False,
    condition=ConditionNetworkConfig(condition_dim=512),
)
