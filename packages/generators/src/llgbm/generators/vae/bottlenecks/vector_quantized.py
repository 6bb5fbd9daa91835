"""Vector quantization (van den Oord et al. 2017; seed 000, 2c), from vector-quantize-pytorch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.deltas.errors import SettingError, require_at_least, require_seed
from llgbm.generators.extras import quantizers
from llgbm.generators.vae.bottlenecks.discrete import DiscreteBottleneck
from llgbm.generators.vae.latent import LatentLayout


@dataclass(frozen=True)
class VectorQuantizedConfig:
    """A codebook that follows its tokens by an exponential average.

    Args:
        codebook_size: entries of a codebook.
        code_dim: numbers of a token.
        levels: codebooks, each of what those before it leave over.
        decay: of the average.
        dead_below: an entry whose average count falls below this moves to a token of the batch.
        warmup_steps: calls in training before tokens are quantized at all; the first after
            them starts the codebooks by k-means.
        seed: of k-means and of the tokens that dead entries move to.
    """

    codebook_size: int = 128
    code_dim: int = 16
    levels: int = 2
    decay: float = 0.9
    dead_below: float = 0.5
    warmup_steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(2, codebook_size=self.codebook_size)
        require_at_least(1, code_dim=self.code_dim, levels=self.levels)
        require_at_least(0, warmup_steps=self.warmup_steps, dead_below=self.dead_below)
        require_seed(self.seed)
        if not 0 < self.decay < 1:
            raise SettingError(f"decay: expected between 0 and 1, got {self.decay:g}")


class VectorQuantizedBottleneck(DiscreteBottleneck):
    """Residual vector quantization of tokens.

    Args:
        config: its settings.
        layout: of the latent.
        width: of the features.
        condition_dim: width of the condition.

    Attributes:
        calls: buffer, calls in training so far.
    """

    calls: Tensor

    def __init__(
        self, config: VectorQuantizedConfig, layout: LatentLayout, width: int, condition_dim: int
    ) -> None:
        size, levels = config.codebook_size, config.levels
        super().__init__(layout, width, config.code_dim, size, levels, condition_dim)
        self.config = config
        self.quantizer = quantizers().ResidualVQ(
            dim=config.code_dim,
            num_quantizers=levels,
            codebook_size=size,
            decay=config.decay,
            kmeans_init=True,
            threshold_ema_dead_code=config.dead_below,
            rotation_trick=True,
        )
        self.register_buffer("calls", torch.tensor(0))

    def quantize(self, tokens: Tensor) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """See DiscreteBottleneck."""
        if self.training:
            self.calls += 1
            if int(self.calls) <= self.config.warmup_steps:
                return tokens, None, {}
        # K-means and dead entries draw from the global generator: lend them a seed of this call.
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(self.config.seed * 1_000_003 + int(self.calls))
            quantized, codes, losses = self.quantizer(tokens)
        return quantized, codes, {"commitment": losses.mean()}

    def entries(self, codes: Tensor) -> Tensor:
        """See DiscreteBottleneck."""
        found: Tensor = self.quantizer.get_output_from_indices(codes)
        return found

    def tables(self) -> Tensor:
        """See DiscreteBottleneck: one codebook a level."""
        size, levels = self.config.codebook_size, self.config.levels
        every = torch.arange(size, device=self.calls.device)[:, None, None].expand(-1, 1, levels)
        found: Tensor = self.quantizer.get_codes_from_indices(every)
        return found[:, :, 0]
