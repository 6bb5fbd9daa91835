"""Nearest embeddings: every vector is replaced by a mix of rows of the reader's own table."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.transforms.base import TRANSFORMS, Transform
from llgbm.latentwire.transforms.neighbours import nearest_rows


@TRANSFORMS.register("nearest")
@dataclass(frozen=True)
class NearestTransformConfig:
    """The k rows of greatest cosine, mixed by a softmax; a longer vector mixes more sharply.

    Args:
        k: rows mixed; 1 takes the nearest row itself, and its gradient goes straight to the
            vector, since one weight cannot move.
        temperature: of the softmax; a vector as long as a typical embedding has its cosines
            divided by it.
        chunk: rows of the table compared at a time.
    """

    k: int = 8
    temperature: float = 0.1
    chunk: int = 8192

    def build(self, reader: Reader) -> NearestTransform:
        """Build it.

        Raises:
            ConfigError: k beyond the vocabulary, or a temperature or chunk that is not above 0.
        """
        if not 1 <= self.k <= reader.vocabulary:
            raise ConfigError(f"transform.k: expected 1 to {reader.vocabulary}, got {self.k}")
        if self.temperature <= 0 or self.chunk < 1:
            raise ConfigError(
                "transform: expected a temperature above 0 and a chunk of at least 1, "
                f"got {self.temperature:g} and {self.chunk}"
            )
        return NearestTransform(self, reader)


class NearestTransform(Transform):
    """sum_i softmax(|x| cos(x, e_i) / (length temperature)) e_i over the k nearest embeddings e_i.

    length is the reader's embedding RMS times sqrt(h). With cosines alone, whatever sets a
    vector's length before this (an adapter's scale) could not learn.
    """

    def __init__(self, config: NearestTransformConfig, reader: Reader) -> None:
        super().__init__()
        self.config = config
        self.unit = config.temperature * reader.embedding_rms * reader.width**0.5
        # In a list: the table is the reader's and no part of what is saved.
        self._reader = [reader]

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See `Transform.forward`; masked slots are zero."""
        table = self._reader[0].embedding
        rows = values[mask]
        near = table[nearest_rows(rows, table, self.config.k, self.config.chunk)].float()
        if self.config.k == 1:
            mixed = near[:, 0] + (rows - rows.detach())
        else:
            along = (rows[:, None] * normalize(near, dim=-1)).sum(-1)
            weights = (along / self.unit).softmax(-1)
            mixed = (weights[..., None] * near).sum(1)
        return torch.zeros_like(values).masked_scatter(mask[..., None], mixed)
