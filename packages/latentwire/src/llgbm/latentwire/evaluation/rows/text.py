"""The whole text: the row that everything is held against."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from llgbm.latentwire.evaluation.rows.base import ROWS, RowConfig, Setting
from llgbm.latentwire.evaluation.rows.tokens import TokenRow


@ROWS.register("text")
@dataclass(frozen=True)
class TextRowConfig(RowConfig):
    """The context and the ending as token ids."""

    def depends_on(self, setting: Setting) -> tuple[Hashable, ...]:
        """See `RowConfig.depends_on`: nothing else."""
        return ()

    def build(self, setting: Setting) -> TextRow:
        """Build it."""
        return TextRow(setting)


class TextRow(TokenRow):
    """Everything is kept."""

    def kept(self, index: int) -> tuple[Sequence[int], int]:
        """See `TokenRow.kept`."""
        context = self.setting.contexts[index]
        return [*context, *self.setting.endings[index]], len(context)
