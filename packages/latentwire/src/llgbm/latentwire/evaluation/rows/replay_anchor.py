"""Embedding replay between anchor texts: does a word of introduction help vectors to be read?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llgbm.latentwire.evaluation.prompts import PrefixPrompts, Prompts
from llgbm.latentwire.evaluation.rows.base import ROWS, Row, RowConfig, Setting
from llgbm.latentwire.prefix import replayed


@ROWS.register("replay_anchor")
@dataclass(frozen=True)
class ReplayAnchorRowConfig(RowConfig):
    """The context as input embeddings with text around it.

    Args:
        before: stands before the context.
        after: stands between the context and the question.
    """

    before: str = "Context:\n"
    after: str = ""

    def build(self, setting: Setting) -> ReplayAnchorRow:
        """Build it."""
        return ReplayAnchorRow(setting, self)


class ReplayAnchorRow(Row):
    """One embedding a token, the anchors' too."""

    def __init__(self, setting: Setting, config: ReplayAnchorRowConfig) -> None:
        super().__init__(setting)
        self.before = setting.reader.tokens(config.before)
        self.after = setting.reader.tokens(config.after)

    def prompts(self, indices: Sequence[int]) -> Prompts:
        """See `Row.prompts`."""
        setting = self.setting
        contexts = [[*self.before, *setting.contexts[index]] for index in indices]
        endings = [[*self.after, *setting.endings[index]] for index in indices]
        return PrefixPrompts(setting.reader, replayed(setting.reader, contexts), endings)
