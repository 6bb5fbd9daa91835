"""Token budget: the beginning of the prompt."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from llgbm.latentwire.evaluation.rows.base import ROWS, RowConfig, Setting
from llgbm.latentwire.evaluation.rows.tokens import TokenRow


@ROWS.register("budget_head")
@dataclass(frozen=True)
class BudgetHeadRowConfig(RowConfig):
    """The first M tokens of the whole prompt; the question is mostly lost."""

    def depends_on(self, setting: Setting) -> tuple[Hashable, ...]:
        """See `RowConfig.depends_on`: how many tokens are left."""
        return (setting.budget,)

    def build(self, setting: Setting) -> BudgetHeadRow:
        """Build it."""
        return BudgetHeadRow(setting)


class BudgetHeadRow(TokenRow):
    """The first M tokens are kept."""

    def kept(self, index: int) -> tuple[Sequence[int], int]:
        """See `TokenRow.kept`."""
        context, budget = self.setting.contexts[index], self.setting.budgets[index]
        whole = [*context, *self.setting.endings[index]]
        return whole[:budget], min(budget, len(context))
