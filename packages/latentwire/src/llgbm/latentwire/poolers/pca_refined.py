"""PCA with a learned refinement: components mapped back to a width, and an MLP's residual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, States
from llgbm.latentwire.poolers.base import POOLERS, Pooler
from llgbm.latentwire.poolers.pca import PCAPooler
from llgbm.latentwire.poolers.source import source_width
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig

# What the MLP adds at first, beside latents of the expected size.
START = 0.01


@POOLERS.register("pca_refined")
@dataclass(frozen=True)
class RefinedPCAPoolerConfig:
    """Few components, then a linear map and an MLP that training moves.

    Args:
        components: of the PCA, through which everything goes; 0 for half of the source's width.
        width: of the latents; 0 for the source's.
        hidden: width of the MLP over the latents' width.
        source: `states` of the encoder, or the reader's own `embeddings` (the encoder must then
            train nothing).
    """

    components: int = 0
    width: int = 0
    hidden: float = 2.0
    source: Literal["states", "embeddings"] = "states"

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> RefinedPCAPooler:
        """Build it; it has to be fitted before it is used.

        Raises:
            ConfigError: an unknown source, embeddings with an encoder that trains, or numbers
                that do not fit.
        """
        full = source_width(self.source, encoder, reader)
        if self.width < 0 or round(self.hidden * (self.width or full)) < 1:
            raise ConfigError(
                "pooler: expected a width of 0 or more and at least one hidden unit, "
                f"got width {self.width}, hidden {self.hidden:g}"
            )
        pca = PCAPooler(self.source, full, self.components or max(1, full // 2))
        return RefinedPCAPooler(pca, full, self.width or full, self.hidden, reader)


class RefinedPCAPooler(Pooler):
    """Linear map of the components plus an MLP of the whitened ones, which starts very small.

    A fit starts the linear map: as the PCA's inverse where latents are as wide as the source,
    as the identity where they are as wide as the PCA; otherwise it stays random.
    """

    def __init__(
        self, pca: PCAPooler, full: int, width: int, hidden: float, reader: Reader
    ) -> None:
        super().__init__()
        self.pca, self.full, self.width = pca, full, width
        inner = round(hidden * width)
        self.back = nn.Linear(pca.width, width)
        self.first, self.last = nn.Linear(pca.width, inner), nn.Linear(inner, width)
        size = reader.embedding_rms if width == reader.width else 1.0
        nn.init.normal_(self.last.weight, std=START * size / inner**0.5)
        nn.init.zeros_(self.last.bias)

    @torch.no_grad()
    def fit(self, encoder: Encoder, texts: Sequence[str], batch: int = 16) -> None:
        """Fit the PCA on all texts of a training split, and start the linear map from it.

        Raises:
            ConfigError: see `PCAPooler.fit`.
        """
        self.pca.fit(encoder, texts, batch)
        if self.width == self.full:
            self.back.weight.copy_(self.pca.components.T)
            self.back.bias.copy_(self.pca.mean)
        elif self.width == self.pca.width:
            self.back.weight.copy_(torch.eye(self.width))
            self.back.bias.zero_()

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`.

        Raises:
            ConfigError: not fitted.
        """
        found = self.pca(states, counts)
        # The MLP sees all components at one size, whatever their variance.
        whitened = found.values / self.pca.deviation
        refined: Tensor = self.last(nn.functional.gelu(self.first(whitened)))
        return found.replaced(self.back(found.values) + refined)
