"""Capacity oracle: what free vectors in the place of embeddings are found to do."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.evaluation.oracle import OracleConfig, fit_vectors
from llgbm.latentwire.evaluation.prompts import PrefixPrompts, Prompts
from llgbm.latentwire.evaluation.rows.base import ROWS, Row, RowConfig, Setting

# Above every recall: a text's vectors are fitted alike whatever is in its batch.
NEVER = 2.0


@ROWS.register("oracle")
@dataclass(frozen=True)
class OracleRowConfig(RowConfig):
    """M vectors optimised for every single context until the reader writes it again.

    They see neither the question nor the answer. The reader runs forward and backward `steps`
    times for every batch of questions, so the row is only there where it is asked for.

    Args:
        steps: of the optimisation.
    """

    steps: int = 150

    def __post_init__(self) -> None:
        require_at_least(1, steps=self.steps)

    def build(self, setting: Setting) -> OracleRow:
        """Build it."""
        return OracleRow(setting, self.steps)


class OracleRow(Row):
    """Vectors of a context, fitted when it is asked about."""

    def __init__(self, setting: Setting, steps: int) -> None:
        super().__init__(setting)
        self.config = OracleConfig(steps=steps, enough=NEVER)

    def prompts(self, indices: Sequence[int]) -> Prompts:
        """See `Row.prompts`."""
        setting = self.setting
        contexts = [setting.contexts[index] for index in indices]
        config = replace(self.config, slots=setting.budget)
        begin = time.perf_counter()
        fitted = fit_vectors(setting.reader, contexts, config)
        return PrefixPrompts(
            setting.reader,
            fitted.prefix,
            self.endings(indices),
            encode_seconds=time.perf_counter() - begin,
        )
