"""Token budget for the context alone: the fairest row of its kind, and the one to beat."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from llgbm.latentwire.evaluation.rows.base import ROWS, RowConfig, Setting
from llgbm.latentwire.evaluation.rows.tokens import TokenRow


@ROWS.register("budget_question_kept")
@dataclass(frozen=True)
class BudgetQuestionKeptRowConfig(RowConfig):
    """The first M tokens of the context, and the whole question."""

    def depends_on(self, setting: Setting) -> tuple[Hashable, ...]:
        """See `RowConfig.depends_on`: how many tokens are left."""
        return (setting.budget,)

    def build(self, setting: Setting) -> BudgetQuestionKeptRow:
        """Build it."""
        return BudgetQuestionKeptRow(setting)


class BudgetQuestionKeptRow(TokenRow):
    """M tokens of the context are kept, and all of the ending."""

    def kept(self, index: int) -> tuple[Sequence[int], int]:
        """See `TokenRow.kept`."""
        context = self.setting.contexts[index][: self.setting.budgets[index]]
        return [*context, *self.setting.endings[index]], len(context)
