"""What rows share that leave a part of the prompt's tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from llgbm.latentwire.evaluation.prompts import Prompts
from llgbm.latentwire.evaluation.rows.base import Row
from llgbm.latentwire.evaluation.token_prompts import TokenPrompts


class TokenRow(Row):
    """A row that says, example by example, which tokens are left."""

    @abstractmethod
    def kept(self, index: int) -> tuple[Sequence[int], int]:
        """Token ids of the prompt of one example, and how many of the context's are left."""

    def prompts(self, indices: Sequence[int]) -> Prompts:
        """See `Row.prompts`."""
        found = [self.kept(index) for index in indices]
        reader = self.setting.reader
        return TokenPrompts(reader, [ids for ids, _ in found], [left for _, left in found])
