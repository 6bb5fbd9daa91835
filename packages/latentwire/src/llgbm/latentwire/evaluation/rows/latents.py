"""What rows share that give the reader latents by the compressor's way in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.evaluation.prompts import PrefixPrompts, Prompts
from llgbm.latentwire.evaluation.rows.base import Row, Setting
from llgbm.latentwire.generation import waited
from llgbm.latentwire.latents import Latents


class LatentsRow(Row):
    """A row that says which latents stand for each text of a batch.

    Args:
        setting: of the table.
        name: of the row, for errors.

    Raises:
        ConfigError: no compressor.
    """

    def __init__(self, setting: Setting, name: str) -> None:
        super().__init__(setting)
        self.compressor: Compressor = setting.needed_compressor(name)

    @abstractmethod
    def latents(self, indices: Sequence[int]) -> Latents:
        """Latents [b, m, z] of a batch; what it takes counts as encoding."""

    def sent(self, latents: Latents) -> Latents:
        """What is left of latents on the other side; what it takes counts as quantising."""
        return latents

    @torch.no_grad()
    def prompts(self, indices: Sequence[int]) -> Prompts:
        """See `Row.prompts`."""
        reader = self.setting.reader
        begin = waited(reader)
        made = self.latents(indices)
        middle = waited(reader)
        read = self.sent(made)
        sent = waited(reader)
        prefix = self.compressor.prefix(read)
        end = waited(reader)
        return PrefixPrompts(
            reader,
            prefix,
            self.endings(indices),
            attached=lambda: self.compressor.attached(read),
            encode_seconds=(middle - begin) + (end - sent),
            quantise_seconds=sent - middle,
            slots=None if self.compressor.pooler.slots_alike else read.counts.tolist(),
        )
