"""A linear map whose channels are scaled and shifted by what the latents say on average."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from llgbm.latentwire.adapters.base import ADAPTERS, Adapter
from llgbm.latentwire.adapters.linear import LinearAdapter
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, masked_mean
from llgbm.latentwire.reader import Reader

# Size of scale and shift at the start.
FIRST_SIZE = 0.1


@ADAPTERS.register("film")
@dataclass(frozen=True)
class FiLMAdapterConfig:
    """The linear adapter with feature-wise modulation.

    Args:
        hidden: width of the MLP that makes scale and shift.
    """

    hidden: int = 128

    def build(self, width: int, reader: Reader) -> FiLMAdapter:
        """Build it.

        Raises:
            ConfigError: no hidden width.
        """
        if self.hidden < 1:
            raise ConfigError(f"adapter.hidden: expected at least 1, got {self.hidden}")
        return FiLMAdapter(self, width, reader)


class FiLMAdapter(Adapter):
    """(1 + scale) * W z + shift, both from the mean over a text's real slots.

    Source: Perez et al. 2018, "FiLM", equation 2; seed 004, 2025-09-25. Shifts are counted in the
    size of the reader's embeddings.
    """

    def __init__(self, config: FiLMAdapterConfig, width: int, reader: Reader) -> None:
        super().__init__()
        self.linear = LinearAdapter(width, reader)
        self.size = reader.embedding_rms
        self.rise = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, config.hidden), nn.GELU())
        self.modulation = nn.Linear(config.hidden, 2 * reader.width)
        nn.init.normal_(self.modulation.weight, std=FIRST_SIZE / config.hidden**0.5)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, latents: Latents) -> Tensor:
        """See `Adapter.forward`."""
        condition = masked_mean(latents.values, latents.mask)[:, None]
        scale, shift = self.modulation(self.rise(condition)).chunk(2, dim=-1)
        return (1 + scale) * self.linear(latents) + self.size * shift
