"""The compressor's latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from llgbm.latentwire.evaluation.rows.base import ROWS, RowConfig, Setting
from llgbm.latentwire.evaluation.rows.latents import LatentsRow
from llgbm.latentwire.latents import Latents


@ROWS.register("latent")
@dataclass(frozen=True)
class LatentRowConfig(RowConfig):
    """Each context as its own latents."""

    bare: ClassVar[bool] = False

    def build(self, setting: Setting) -> LatentRow:
        """Build it.

        Raises:
            ConfigError: no compressor.
        """
        return LatentRow(setting, "latent")


class LatentRow(LatentsRow):
    """What the compressor makes of each context."""

    def latents(self, indices: Sequence[int]) -> Latents:
        """See `LatentsRow.latents`."""
        examples = self.setting.examples
        return self.compressor.encode([examples[index].context for index in indices])
