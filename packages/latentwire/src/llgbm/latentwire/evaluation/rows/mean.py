"""The same latents for every text: what slots do that say only what all texts have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.evaluation.rows.base import ROWS, RowConfig, Setting
from llgbm.latentwire.evaluation.rows.latents import LatentsRow
from llgbm.latentwire.latents import Latents, stack


@ROWS.register("mean")
@dataclass(frozen=True)
class MeanRowConfig(RowConfig):
    """The training texts' mean latents, slot by slot.

    Args:
        batch_size: texts encoded at once.
    """

    batch_size: int = 8
    bare: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_at_least(1, batch_size=self.batch_size)

    def build(self, setting: Setting) -> MeanRow:
        """Build it: encodes the training texts.

        Raises:
            ConfigError: no compressor, slots that say nothing alone, or no training texts.
        """
        return MeanRow(setting, self)


class MeanRow(LatentsRow):
    """Mean latents, cut to each text's number of slots."""

    def __init__(self, setting: Setting, config: MeanRowConfig) -> None:
        super().__init__(setting, "mean")
        if not setting.training:
            raise ConfigError("row mean: expected training texts, got none")
        if not self.compressor.pooler.slots_alike:
            raise ConfigError("row mean: expected slots that say something alone: leave it out")
        most = max(setting.budgets)
        self.mean = mean_latents(self.compressor, setting.training, most, config.batch_size)

    def latents(self, indices: Sequence[int]) -> Latents:
        """See `LatentsRow.latents`."""
        return stack([self.mean[: self.setting.budgets[index]] for index in indices])


@torch.no_grad()
def mean_latents(
    compressor: Compressor, texts: Sequence[str], count: int, batch_size: int
) -> Tensor:
    """Mean [count, z] over texts of each slot; that of all slots where no text has so many.

    Args:
        compressor: that encodes.
        texts: whose latents are averaged; repeated ones count once.
        count: slots.
        batch_size: texts encoded at once.
    """
    ordered = sorted(set(texts), key=len)
    sums, numbers = [], []
    for start in range(0, len(ordered), batch_size):
        latents = compressor.encode(ordered[start : start + batch_size])
        sums.append(latents.replaced(latents.values).values.sum(0))
        numbers.append(latents.mask.sum(0).to(latents.values.dtype))
    total, number = pad_sequence(sums).sum(1), pad_sequence(numbers).sum(1)[:, None]
    whole = total.sum(0) / number.sum()
    mean = total / number
    return torch.cat([mean[:count], whole.expand(max(0, count - len(mean)), -1)])
