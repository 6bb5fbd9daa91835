"""Soft codebook: every vector becomes a mix of a few learned codes that began as embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.transforms.base import TRANSFORMS, Transform

# Rows drawn for every code that is chosen among them.
CANDIDATES = 8


@TRANSFORMS.register("soft_codebook")
@dataclass(frozen=True)
class SoftCodebookTransformConfig:
    """Codes mixed by a softmax; a longer vector mixes more sharply.

    Args:
        codes: number of them.
        temperature: of the softmax; a vector as long as a typical embedding has its cosines
            divided by it.
        seed: of the embeddings that codes start from.
    """

    codes: int = 512
    temperature: float = 0.1
    seed: int = 0

    def build(self, reader: Reader) -> SoftCodebookTransform:
        """Build it.

        Raises:
            ConfigError: a temperature that is not above 0, or codes that are fewer than two or
                more than the vocabulary.
        """
        if not 2 <= self.codes <= reader.vocabulary or self.temperature <= 0:
            raise ConfigError(
                f"transform: expected 2 to {reader.vocabulary} codes and a temperature above 0, "
                f"got {self.codes} and {self.temperature:g}"
            )
        return SoftCodebookTransform(self, reader)


def spread_rows(table: Tensor, number: int, seed: int) -> Tensor:
    """Places [number] of different rows of a table [v, h] that lie far apart.

    Rows are drawn in turn, each with a chance that grows with the square of its distance from
    those drawn before (k-means++, Arthur and Vassilvitskii 2007), among a random part of the
    table.

    Returns:
        int64, on the CPU, the same for a seed on every device.
    """
    draw = torch.Generator().manual_seed(seed)
    part = torch.randperm(len(table), generator=draw)[: CANDIDATES * number]
    rows = table[part.to(table.device)].float().cpu()
    squares = rows.square().sum(-1)
    chosen = [0]
    distance = torch.full_like(squares, torch.inf)
    while len(chosen) < number:
        last = rows[chosen[-1]]
        apart = (squares - 2 * rows @ last + last @ last).clamp(min=0)
        distance = torch.minimum(distance, apart)
        # Equal rows have no distance left; the least of chances lets them be drawn at the end.
        chances = distance + torch.finfo(torch.float32).tiny
        chances[chosen] = 0
        chosen.append(int(torch.multinomial(chances, 1, generator=draw)))
    return part[chosen]


class SoftCodebookTransform(Transform):
    """sum_j softmax(|x| cos(x, c_j) / (length temperature)) c_j over all codes c_j.

    length is the reader's embedding RMS times sqrt(h).

    Attributes:
        codebook: [codes, h], learned.
    """

    def __init__(self, config: SoftCodebookTransformConfig, reader: Reader) -> None:
        super().__init__()
        self.unit = config.temperature * reader.embedding_rms * reader.width**0.5
        table = reader.embedding
        places = spread_rows(table, config.codes, config.seed).to(table.device)
        self.codebook = nn.Parameter(table[places].float())

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """See `Transform.forward`."""
        along = values @ normalize(self.codebook, dim=-1).T
        return (along / self.unit).softmax(-1) @ self.codebook
