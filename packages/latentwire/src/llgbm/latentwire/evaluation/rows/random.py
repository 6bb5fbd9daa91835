"""Random vectors: what slots do that say nothing at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.latentwire.evaluation.prompts import PrefixPrompts, Prompts
from llgbm.latentwire.evaluation.rows.base import ROWS, Row, RowConfig, Setting
from llgbm.latentwire.latents import stack
from llgbm.latentwire.prefix import from_embeddings


@ROWS.register("random")
@dataclass(frozen=True)
class RandomRowConfig(RowConfig):
    """M normal vectors with the RMS of the reader's embeddings."""

    def build(self, setting: Setting) -> RandomRow:
        """Build it."""
        return RandomRow(setting)


class RandomRow(Row):
    """Each example has vectors of its own, drawn from the seed and its place."""

    def prompts(self, indices: Sequence[int]) -> Prompts:
        """See `Row.prompts`."""
        drawn = stack([self.vectors(index) for index in indices])
        return PrefixPrompts(
            self.setting.reader,
            from_embeddings(drawn.values, drawn.mask),
            self.endings(indices),
        )

    def vectors(self, index: int) -> Tensor:
        """[M, h] float32 of one example."""
        reader = self.setting.reader
        seed = self.setting.seed * len(self.setting.examples) + index
        draw = torch.Generator(device="cpu").manual_seed(seed)
        drawn = torch.randn(self.setting.budgets[index], reader.width, generator=draw)
        return drawn.to(reader.device) * reader.embedding_rms
