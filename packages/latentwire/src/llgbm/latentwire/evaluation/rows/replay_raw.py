"""Embedding replay: the context's own embeddings through the door that latents come in by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llgbm.latentwire.evaluation.prompts import PrefixPrompts, Prompts
from llgbm.latentwire.evaluation.rows.base import ROWS, Row, RowConfig, Setting
from llgbm.latentwire.prefix import replayed


@ROWS.register("replay_raw")
@dataclass(frozen=True)
class ReplayRawRowConfig(RowConfig):
    """The context as input embeddings; must answer as `text` does (anchor rule 20)."""

    def build(self, setting: Setting) -> ReplayRawRow:
        """Build it."""
        return ReplayRawRow(setting)


class ReplayRawRow(Row):
    """One embedding a token."""

    def prompts(self, indices: Sequence[int]) -> Prompts:
        """See `Row.prompts`."""
        setting = self.setting
        prefix = replayed(setting.reader, [setting.contexts[index] for index in indices])
        return PrefixPrompts(setting.reader, prefix, self.endings(indices))
