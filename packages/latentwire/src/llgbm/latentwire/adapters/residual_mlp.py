"""A linear map, then MLPs that add to it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import gelu

from llgbm.latentwire.adapters.base import ADAPTERS, Adapter
from llgbm.latentwire.adapters.linear import LinearAdapter
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.reader import Reader

# Size of what a block adds at the start, over the size of embeddings.
FIRST_SHARE = 0.1


@ADAPTERS.register("residual_mlp")
@dataclass(frozen=True)
class ResidualMLPAdapterConfig:
    """The linear adapter and residual MLPs of the reader's width.

    Args:
        blocks: MLPs.
        hidden: their width over the reader's.
    """

    blocks: int = 2
    hidden: float = 2.0

    def build(self, width: int, reader: Reader) -> ResidualMLPAdapter:
        """Build it.

        Raises:
            ConfigError: no blocks, or no hidden width.
        """
        if self.blocks < 1 or round(self.hidden * reader.width) < 1:
            raise ConfigError(
                "adapter: expected at least 1 block and a hidden width above 0, "
                f"got {self.blocks}, {self.hidden:g}"
            )
        return ResidualMLPAdapter(self, width, reader)


class ResidualMLPAdapter(Adapter):
    """x = W z, then x + MLP(norm(x)) in every block; blocks add little at the start."""

    def __init__(self, config: ResidualMLPAdapterConfig, width: int, reader: Reader) -> None:
        super().__init__()
        self.linear = LinearAdapter(width, reader)
        hidden = round(config.hidden * reader.width)
        self.blocks = nn.ModuleList(
            ResidualBlock(reader.width, hidden, FIRST_SHARE * reader.embedding_rms)
            for _ in range(config.blocks)
        )

    def forward(self, latents: Latents) -> Tensor:
        """See `Adapter.forward`."""
        values: Tensor = self.linear(latents)
        for block in self.blocks:
            values = block(values)
        return values


class ResidualBlock(nn.Module):
    """x + MLP(norm(x)).

    Args:
        width: of vectors.
        hidden: of the MLP.
        size: about what the MLP's outputs have at the start, or less.
    """

    def __init__(self, width: int, hidden: int, size: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.rise = nn.Linear(width, hidden)
        self.fall = nn.Linear(hidden, width)
        nn.init.normal_(self.fall.weight, std=size / hidden**0.5)
        nn.init.zeros_(self.fall.bias)

    def forward(self, values: Tensor) -> Tensor:
        """Vectors [b, m, width]."""
        return values + self.fall(gelu(self.rise(self.norm(values))))
