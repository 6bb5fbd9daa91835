"""Latents of another text: what is left when latents are good ones, and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from llgbm.latentwire.evaluation.derangement import other_contexts
from llgbm.latentwire.evaluation.rows.base import ROWS, RowConfig, Setting
from llgbm.latentwire.evaluation.rows.latents import LatentsRow
from llgbm.latentwire.latents import Latents, stack


@ROWS.register("shuffled")
@dataclass(frozen=True)
class ShuffledRowConfig(RowConfig):
    """Each context as the latents of a context of another document."""

    bare: ClassVar[bool] = False

    def build(self, setting: Setting) -> ShuffledRow:
        """Build it.

        Raises:
            ConfigError: no compressor.
            PromptError: all examples are of one document.
        """
        return ShuffledRow(setting)


class ShuffledRow(LatentsRow):
    """Latents of other texts: cut to the text's own number of slots, or begun again to fill it.

    Slots that say nothing alone are left as many as they are.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, "shuffled")
        self.contexts = other_contexts(setting.examples, setting.seed)

    def latents(self, indices: Sequence[int]) -> Latents:
        """See `LatentsRow.latents`."""
        others = self.compressor.encode([self.contexts[index] for index in indices])
        if not self.compressor.pooler.slots_alike:
            return others
        rows = []
        for place, index in enumerate(indices):
            row, count = others.row(place), self.setting.budgets[index]
            rows.append(row.repeat(-(-count // len(row)), 1)[:count])
        return stack(rows)
