"""One linear map with a learned scale."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.adapters.base import ADAPTERS, Adapter
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.reader import Reader


@ADAPTERS.register("linear")
@dataclass(frozen=True)
class LinearAdapterConfig:
    """A linear map; where widths agree it starts as the identity.

    Args:
        scale: learn one factor of all outputs too. Behind a transform or calibration that sets
            the size itself (`rms`, `embedding_rms`) nothing could train it.
    """

    scale: bool = False

    def build(self, width: int, reader: Reader) -> LinearAdapter:
        """Build it."""
        return LinearAdapter(width, reader, self.scale)


class LinearAdapter(Adapter):
    """W z + b, times a scale where asked.

    With z of another width W starts random, with outputs of the size of the reader's embeddings
    for inputs of size 1 (anchor rule 17).
    """

    def __init__(self, width: int, reader: Reader, scale: bool = False) -> None:
        super().__init__()
        self.linear = nn.Linear(width, reader.width)
        self.scale = nn.Parameter(torch.ones(())) if scale else None
        with torch.no_grad():
            self.linear.bias.zero_()
            if width == reader.width:
                self.linear.weight.copy_(torch.eye(width))
            else:
                nn.init.normal_(self.linear.weight, std=reader.embedding_rms / width**0.5)

    def forward(self, latents: Latents) -> Tensor:
        """See `Adapter.forward`."""
        values: Tensor = self.linear(latents.values)
        return values if self.scale is None else self.scale * values
