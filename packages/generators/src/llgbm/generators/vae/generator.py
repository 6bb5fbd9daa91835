"""LoRAGeneratorVAE: adapters through a latent that can be sampled, interpolated and searched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.errors import SettingError
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.condition_network import ConditionNetwork
from llgbm.generators.conditions import ConditionBatch
from llgbm.generators.decoders.base import Decoder
from llgbm.generators.decoders.full_width import FullWidthDecoder
from llgbm.generators.decoders.periodic import PeriodicConfig, PeriodicDecoder
from llgbm.generators.decoders.span import start_in_span
from llgbm.generators.delta_head import check_deltas
from llgbm.generators.generator import GeneratorOutput
from llgbm.generators.losses.halfway import neighbours
from llgbm.generators.spec_words import told_apart
from llgbm.generators.vae.bottlenecks.gaussian import GaussianBottleneck
from llgbm.generators.vae.bottlenecks.registry import make_bottleneck
from llgbm.generators.vae.config import VAEConfig
from llgbm.generators.vae.delta_decoder import DeltaDecoder
from llgbm.generators.vae.encoders import layer_count, make_encoder
from llgbm.generators.vae.even import MEASURED, even_places
from llgbm.generators.vae.latent import Latent, LatentLayout
from llgbm.generators.vae.priors.registry import make_prior
from llgbm.generators.vae.trunk import LatentTrunk


@dataclass(frozen=True)
class VAEOutput(GeneratorOutput):
    """What a VAE says of b adapters.

    Attributes:
        latent: of each.
        halfway: n = b adapters, of the means of each latent and its neighbour's, where asked for.
    """

    latent: Latent
    halfway: LoRAWeights | None = None


class LoRAGeneratorVAE(nn.Module):
    """Adapter and condition -> z -> adapter; condition -> p(z) -> adapter (seed 000).

    Args:
        config: parts and sizes.
        spec: modules and rank of the adapters.
        delta_shape: of one adapter's delta, [hidden] or [probes, layers, hidden].
        seed: of the initialisation; the global generator is left as it was.
        source: modules and rank of the adapters that it reads, where they are of another base than
            those that it writes.

    Raises:
        SettingError: codes of layers, and bases of unlike depth.

    Attributes:
        layout: of the latent.
        metadata: JSON values that travel with the saved VAE.
    """

    def __init__(
        self,
        config: VAEConfig,
        spec: LoRASpec,
        delta_shape: tuple[int, ...],
        seed: int = 0,
        source: LoRASpec | None = None,
    ) -> None:
        super().__init__()
        self.source = source or spec
        self.config, self.spec, self.delta_shape = config, spec, tuple(delta_shape)
        self.metadata: dict[str, Any] = {}
        layers = layer_count(self.source)
        if config.layer_code_dim and layer_count(spec) != layers:
            raise SettingError(
                f"layer_code_dim: expected 0 to write for {layer_count(spec)} layers from adapters "
                f"of {layers}, got {config.layer_code_dim}"
            )
        self.layout = LatentLayout(config.latent_dim, layers, config.layer_code_dim)
        dim, width = config.condition.condition_dim, config.encoder.width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.condition_network = ConditionNetwork(config.condition)
            self.encoder = make_encoder(config.encoder, self.source, dim)
            self.bottleneck = make_bottleneck(config.bottleneck, self.layout, width, dim)
            posterior = (
                self.bottleneck.posterior
                if isinstance(self.bottleneck, GaussianBottleneck)
                else None
            )
            self.prior = make_prior(config.prior, self.layout.size, dim, width, layers, posterior)
            self.decoder = self._make_decoder()
            self.delta_decoder = DeltaDecoder(
                self.layout.size, config.delta_hidden, self.delta_shape
            )

    def _make_decoder(self) -> Decoder:
        config, size = self.config.decoder, self.layout.size
        trunk = LatentTrunk(
            self.spec, self.layout, config.hidden, config.blocks, self.config.own_maps
        )
        if isinstance(config, PeriodicConfig):
            return PeriodicDecoder(config, self.spec, size, trunk)
        return FullWidthDecoder(config, self.spec, size, trunk)

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars."""
        return sum(parameter.numel() for parameter in self.parameters())

    def parameters_of_parts(self) -> dict[str, int]:
        """Number of trained scalars of every part, by name."""
        return {
            name: sum(parameter.numel() for parameter in part.parameters())
            for name, part in self.named_children()
        }

    def encode(
        self,
        conditions: ConditionBatch,
        adapters: LoRAWeights | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Latent, Tensor]:
        """Return the latent of b adapters and the condition [b, condition_dim].

        Args:
            conditions: b conditions on the VAE's device.
            adapters: n = b, of the spec `source`; not read by a condition encoder.
            noise: [b, size] unit normal numbers; z is the centre where None.

        Raises:
            ValueError: adapters of another spec, or none where they are read.
        """
        if adapters is not None and adapters.spec != self.source:
            expected, got = told_apart(self.source, adapters.spec)
            raise ValueError(f"adapters: expected {expected} as the VAE's, got {got}")
        condition = self.condition_network(conditions)
        features = self.encoder(condition, adapters)
        return self.bottleneck(features, condition, self.prior, noise), condition

    def forward(
        self,
        conditions: ConditionBatch,
        adapters: LoRAWeights | None = None,
        noise: Tensor | None = None,
        halfway: bool = False,
    ) -> VAEOutput:
        """Rebuild adapters from their latents and predict their deltas; see `encode`.

        Args:
            conditions, adapters, noise: see `encode`.
            halfway: write what lies between neighbours, too.
        """
        latent, condition = self.encode(conditions, adapters, noise)
        z, middle = latent.z, None
        if halfway:
            middle = self.generate_from_z((z + z[neighbours(len(z))]) / 2)
        return VAEOutput(self.generate_from_z(z), self.delta_decoder(z), condition, latent, middle)

    def generate_from_z(self, z: Tensor) -> LoRAWeights:
        """Write n = b adapters from latents [b, size].

        Raises:
            ValueError: latents of another size.
        """
        self.layout.split(z)
        return self.decoder(z)

    @torch.no_grad()
    def centre(self, conditions: ConditionBatch) -> Tensor:
        """Return the latent [b, size] that stands for b conditions."""
        condition = self.condition_network(conditions)
        if self.encoder.reads_adapters:
            return self.bottleneck.centre(condition, self.prior)
        return self.bottleneck(self.encoder(condition), condition, self.prior).z

    @torch.no_grad()
    def sample(self, conditions: ConditionBatch, generator: torch.Generator) -> Tensor:
        """Draw one latent [b, size] for each of b conditions.

        Args:
            conditions: b conditions on the VAE's device.
            generator: on the CPU.
        """
        condition = self.condition_network(conditions)
        if self.encoder.reads_adapters:
            return self.bottleneck.sample(condition, self.prior, generator)
        # The seed's encoder knows no more than the condition: its posterior is what varies.
        noise = torch.randn(condition.shape[0], self.layout.size, generator=generator)
        features = self.encoder(condition)
        return self.bottleneck(features, condition, self.prior, noise.to(condition)).z

    def write(self, conditions: ConditionBatch) -> LoRAWeights:
        """Write n = b adapters for conditions alone, without gradient."""
        with torch.no_grad():
            return self.generate_from_z(self.centre(conditions))

    @torch.no_grad()
    def interpolate(
        self, start: Tensor, end: Tensor, shares: Sequence[float], even: bool = False
    ) -> LoRAWeights:
        """Write adapters on the straight line between two latents.

        Args:
            start, end: [size].
            shares: of the way, 0 at `start`.
            even: shares are of the length of the written updates, not of the line.

        Returns:
            n = len(shares) adapters.
        """
        places = torch.tensor(list(shares), dtype=start.dtype, device=start.device)
        if even:
            measured = [place / (MEASURED - 1) for place in range(MEASURED)]
            places = even_places(self.interpolate(start, end, measured), measured, shares).to(start)
        return self.generate_from_z(start + places[:, None] * (end - start))

    @torch.no_grad()
    def fit_scales(self, teachers: LoRAWeights, deltas: Tensor) -> None:
        """Read off the training teachers where A starts and how large everything is.

        Args:
            teachers: n training teachers, none of them held out.
            deltas: [n, *delta_shape].

        Raises:
            ValueError: another spec or shape, NaN or Inf.
        """
        check_deltas(deltas, (teachers.n, *self.delta_shape))
        self.decoder.set_base(teachers)
        self.decoder.fit_scales(teachers)
        if isinstance(self.decoder, FullWidthDecoder):
            start_in_span(self.decoder, teachers)
        if self.encoder.reads_adapters and self.source == self.spec:
            self.encoder.fit_sketch_scale(teachers)  # type: ignore[operator]
        self.delta_decoder.fit_scale(deltas)
