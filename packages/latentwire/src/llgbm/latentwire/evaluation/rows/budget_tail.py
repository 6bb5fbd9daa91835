"""Token budget: the end of the prompt."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from llgbm.latentwire.evaluation.rows.base import ROWS, RowConfig, Setting
from llgbm.latentwire.evaluation.rows.tokens import TokenRow


@ROWS.register("budget_tail")
@dataclass(frozen=True)
class BudgetTailRowConfig(RowConfig):
    """The last M tokens of the whole prompt: the question, and context where there is room."""

    def depends_on(self, setting: Setting) -> tuple[Hashable, ...]:
        """See `RowConfig.depends_on`: how many tokens are left."""
        return (setting.budget,)

    def build(self, setting: Setting) -> BudgetTailRow:
        """Build it."""
        return BudgetTailRow(setting)


class BudgetTailRow(TokenRow):
    """The last M tokens are kept."""

    def kept(self, index: int) -> tuple[Sequence[int], int]:
        """See `TokenRow.kept`."""
        ending, budget = self.setting.endings[index], self.setting.budgets[index]
        whole = [*self.setting.contexts[index], *ending]
        return whole[-budget:], max(0, min(budget, len(whole)) - len(ending))
