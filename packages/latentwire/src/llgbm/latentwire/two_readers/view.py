"""A shared compressor as one of its readers knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from llgbm.latentwire.compressor import Compressor, Port
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.poolers.base import Pooler
from llgbm.latentwire.two_readers.compressor import SharedCompressor
from llgbm.latentwire.two_readers.layout import SHARED


class View(Compressor):
    """A compressor whose latents are the shared slots and one reader's own.

    Every part is the shared compressor's: losses and rows that know a compressor know this.

    Args:
        shared: whose parts these are.
        name: of the reader, `first` or `second`.
    """

    def __init__(self, shared: SharedCompressor, name: str) -> None:
        nn.Module.__init__(self)
        self.shared = shared
        self.name = name
        self.config = shared.config.of(name)
        self._reader = [shared.readers[name]]
        self.encoder, self.refiner = shared.encoder, shared.refiner
        self.bottleneck = shared.bottleneck
        self.pooler = cast(Pooler, shared.pooler[SHARED])
        self.port = cast(Port, shared.port[name])

    def counts(self, texts: Sequence[str], ratio: float | None = None) -> Tensor:
        """Slots [b] that this reader sees; at a ratio all of them are shared."""
        counts = self.shared.counts(texts, ratio)
        return counts if ratio is not None else self.shared.config.layout.seen(counts)

    def encode(self, texts: Sequence[str], ratio: float | None = None) -> Latents:
        """What this reader sees of b texts; see `Compressor.encode`."""
        if ratio is not None:
            return self.shared.encode_uncompressed(texts, ratio)
        return self.seen(self.shared.encode(texts))

    def seen(self, latents: Latents) -> Latents:
        """What this reader sees of all slots."""
        return self.shared.config.layout.view(latents, self.name)

    def fit(self, texts: Sequence[str]) -> None:
        """Fit the shared compressor, both readers' parts together."""
        self.shared.fit(texts)
