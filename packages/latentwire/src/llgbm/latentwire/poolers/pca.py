"""Principal components of a text's vectors: fitted once on the whole training split, then fixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents, States, slot_mask
from llgbm.latentwire.poolers.base import POOLERS, Pooler, segments
from llgbm.latentwire.poolers.source import pooled_values, source_width
from llgbm.latentwire.poolers.streamed import StreamedCovariance
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig


@POOLERS.register("pca")
@dataclass(frozen=True)
class PCAPoolerConfig:
    """Segment means on principal components; with slots.ratio 1 only the width is reduced.

    Args:
        width: components kept, which is the latents' width; 0 for all.
        source: `states` of the encoder, or the reader's own `embeddings` (the encoder must then
            train nothing).
        whiten: divide every component by its standard deviation, so that latents have size 1.
    """

    width: int = 0
    source: Literal["states", "embeddings"] = "states"
    whiten: bool = False

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> PCAPooler:
        """Build it; it has to be fitted before it is used.

        Raises:
            ConfigError: an unknown source, embeddings with an encoder that trains, or more
                components than the source has dimensions.
        """
        full = source_width(self.source, encoder, reader)
        return PCAPooler(self.source, full, self.width or full, self.whiten)


class PCAPooler(Pooler):
    """(mean of a segment - mean of the training split) on the kept components.

    Attributes:
        mean: [d] of the training split.
        components: [z, d], orthonormal rows, greatest variance first.
        variance: [z], along each component.
        total_variance: scalar, along all d dimensions.
        positions: vectors fitted on; 0 before a fit.
    """

    mean: Tensor
    components: Tensor
    variance: Tensor
    total_variance: Tensor
    positions: Tensor

    def __init__(self, source: str, full: int, width: int, whiten: bool = False) -> None:
        super().__init__()
        if not 1 <= width <= full:
            raise ConfigError(f"pooler.width: expected 0 to {full} components, got {width}")
        self.source, self.width, self.whiten = source, width, whiten
        self.register_buffer("mean", torch.zeros(full))
        self.register_buffer("components", torch.zeros(width, full))
        self.register_buffer("variance", torch.zeros(width))
        self.register_buffer("total_variance", torch.zeros(()))
        self.register_buffer("positions", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def fit(self, encoder: Encoder, texts: Sequence[str], batch: int = 16) -> None:
        """Fit on all texts of a training split (anchor rule 18), a few at a time.

        Args:
            encoder: the one that this pooler stands behind, as it is now.
            texts: all of them.
            batch: texts encoded at a time.

        Raises:
            ConfigError: no texts, or too few positions for as many components.
        """
        seen: StreamedCovariance | None = None
        training = encoder.training
        encoder.eval()
        try:
            for start in range(0, len(texts), batch):
                states = encoder(texts[start : start + batch])
                rows = pooled_values(self.source, states)[states.mask]
                seen = seen or StreamedCovariance(rows.shape[1], rows.device)
                seen.add(rows)
        finally:
            encoder.train(training)
        if seen is None or seen.count <= self.width:
            raise ConfigError(
                f"texts: expected more than {self.width} positions to fit, "
                f"got {seen.count if seen else 0}"
            )
        mean, components, variance = seen.principal()
        self.mean.copy_(mean)
        self.components.copy_(components[: self.width])
        self.variance.copy_(variance[: self.width])
        self.total_variance.copy_(variance.sum())
        self.positions.fill_(seen.count)

    @property
    def explained(self) -> float:
        """Share of the training split's variance that the kept components hold."""
        self._check()
        return float(self.variance.double().sum() / self.total_variance.double())

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`.

        Raises:
            ConfigError: not fitted.
        """
        self._check()
        means = segments(states.lengths, counts) @ pooled_values(self.source, states)
        values = (means - self.mean) @ self.components.T
        if self.whiten:
            values = values / self.deviation
        mask = slot_mask(counts)
        return Latents(values * mask[..., None], mask)

    def restored(self, values: Tensor) -> Tensor:
        """Vectors [..., d] of the source that latents [..., z] stand for: the inverse."""
        self._check()
        if self.whiten:
            values = values * self.deviation
        return values @ self.components + self.mean

    @property
    def deviation(self) -> Tensor:
        """Standard deviations [z]; components without variance are left as they are."""
        floor = self.total_variance * torch.finfo(torch.float32).eps
        return torch.where(self.variance > floor, self.variance, 1.0).sqrt()

    def _check(self) -> None:
        if not int(self.positions):
            raise ConfigError(
                "pooler: pca: expected a fitted basis, got none: call fit(encoder, texts) with "
                "the whole training split, or load a trained compressor"
            )
