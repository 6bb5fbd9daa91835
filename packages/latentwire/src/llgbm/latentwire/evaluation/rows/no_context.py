"""The question alone: what the reader knows or guesses without the context."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from llgbm.latentwire.evaluation.rows.base import ROWS, RowConfig, Setting
from llgbm.latentwire.evaluation.rows.tokens import TokenRow


@ROWS.register("no_context")
@dataclass(frozen=True)
class NoContextRowConfig(RowConfig):
    """The ending as token ids."""

    def depends_on(self, setting: Setting) -> tuple[Hashable, ...]:
        """See `RowConfig.depends_on`: nothing else."""
        return ()

    def build(self, setting: Setting) -> NoContextRow:
        """Build it."""
        return NoContextRow(setting)


class NoContextRow(TokenRow):
    """Nothing of the context is kept."""

    def kept(self, index: int) -> tuple[Sequence[int], int]:
        """See `TokenRow.kept`."""
        return self.setting.endings[index], 0
