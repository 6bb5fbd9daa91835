"""Principal directions of the reader's embeddings over training texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader


@dataclass(frozen=True)
class Basis:
    """A mean and directions.

    Attributes:
        mean: [h] float32.
        directions: [k, h] float32, orthonormal, by falling variance.
    """

    mean: Tensor
    directions: Tensor

    def projected(self, values: Tensor) -> Tensor:
        """Coordinates [..., k] of vectors [..., h]."""
        return (values - self.mean) @ self.directions.T

    def restored(self, coordinates: Tensor) -> Tensor:
        """Vectors [..., h] of coordinates [..., k]."""
        return coordinates @ self.directions + self.mean


@torch.no_grad()
def fit_basis(reader: Reader, texts: Sequence[str], components: int) -> Basis:
    """PCA of the embeddings of every token of every text (anchor rule 18: the whole split).

    Args:
        reader: whose embeddings.
        texts: of the training split, all of them.
        components: directions k, from 1 to h.

    Raises:
        ConfigError: no tokens, or more directions than the reader is wide.
    """
    if not 1 <= components <= reader.width:
        raise ConfigError(f"components: expected 1 to {reader.width}, got {components}")
    seen = torch.zeros(reader.vocabulary, dtype=torch.float64)
    for text in texts:
        ids = torch.tensor(reader.tokens(text), dtype=torch.long)
        seen += torch.bincount(ids, minlength=reader.vocabulary)
    if not seen.any():
        raise ConfigError("texts: expected at least one token, got none")
    # Each token of the vocabulary weighs as often as it stands in the texts.
    used = seen.nonzero()[:, 0]
    weights = (seen / seen.sum())[used].to(reader.device)
    table = reader.embed(used.to(reader.device)).double()
    mean = weights @ table
    centred = (table - mean) * weights.sqrt()[:, None]
    directions = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(-1)[:, :components].T
    return Basis(mean.float(), directions.contiguous().float())
