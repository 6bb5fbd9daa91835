"""Anchor and offset: the nearest embedding, and a step from it that cannot be long."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.transforms.base import TRANSFORMS, Transform
from llgbm.latentwire.transforms.neighbours import nearest_rows


@TRANSFORMS.register("anchor_offset")
@dataclass(frozen=True)
class AnchorOffsetTransformConfig:
    """Vectors stay within a radius of an embedding; the radius is learned, up to a bound.

    Args:
        bound: no radius is larger, in lengths of a typical embedding (its RMS times sqrt(h)).
        start: share of the bound that the radius starts at, between 0 and 1.
        chunk: rows of the table compared at a time.
    """

    bound: float = 1.0
    start: float = 0.5
    chunk: int = 8192

    def build(self, reader: Reader) -> AnchorOffsetTransform:
        """Build it.

        Raises:
            ConfigError: a bound, start or chunk out of range.
        """
        if self.bound <= 0 or not 0 < self.start < 1 or self.chunk < 1:
            raise ConfigError(
                "transform: expected a bound above 0, a start between 0 and 1 and a chunk of at "
                f"least 1, got {self.bound:g}, {self.start:g} and {self.chunk}"
            )
        return AnchorOffsetTransform(self, reader)


class AnchorOffsetTransform(Transform):
    """a + r tanh(|x - a| / r) (x - a) / |x - a|, a the embedding of greatest cosine to x.

    Near an embedding that is x itself; far from one, the step has length r.
    """

    def __init__(self, config: AnchorOffsetTransformConfig, reader: Reader) -> None:
        super().__init__()
        self.chunk = config.chunk
        self.longest = config.bound * reader.embedding_rms * reader.width**0.5
        self.share = nn.Parameter(torch.logit(torch.tensor(config.start)))
        # In a list: the table is the reader's and no part of what is saved.
        self._reader = [reader]

    @property
    def radius(self) -> Tensor:
        """Longest offset now, a scalar."""
        return self.longest * self.share.sigmoid()

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See `Transform.forward`; masked slots are zero."""
        table = self._reader[0].embedding
        rows = values[mask]
        anchors = table[nearest_rows(rows, table, 1, self.chunk)[:, 0]].float()
        offset = rows - anchors
        length = offset.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        moved = anchors + offset * (self.radius * (length / self.radius).tanh() / length)
        return torch.zeros_like(values).masked_scatter(mask[..., None], moved)
