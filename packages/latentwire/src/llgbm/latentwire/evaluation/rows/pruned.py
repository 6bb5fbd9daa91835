"""A token pruner: the tokens that surprise the reader most are left, the rest is dropped.

In the manner of Selective Context and LLMLingua: a causal model's surprisal says how much a token
tells, and what it would have guessed anyway goes first. Theirs prune with a small model, by
phrases or segments and with a budget for each; here the reader itself prunes token by token, and
every context keeps exactly as many tokens as the compressor has slots.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.latentwire.evaluation.prompts import Prompts
from llgbm.latentwire.evaluation.rows.base import ROWS, Row, RowConfig, Setting
from llgbm.latentwire.evaluation.token_prompts import TokenPrompts
from llgbm.latentwire.prefix import empty_prefix
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import score


@ROWS.register("pruned")
@dataclass(frozen=True)
class PrunedRowConfig(RowConfig):
    """The M tokens of the context with the highest surprisal, in order, and the question."""

    def build(self, setting: Setting) -> PrunedRow:
        """Build it."""
        return PrunedRow(setting)


class PrunedRow(Row):
    """Surprising tokens are kept; reading the context once more counts as encoding."""

    def prompts(self, indices: Sequence[int]) -> Prompts:
        """See `Row.prompts`."""
        setting = self.setting
        begin = time.perf_counter()
        kept = [self.kept(index) for index in indices]
        rows = [[*ids, *setting.endings[i]] for ids, i in zip(kept, indices, strict=True)]
        seconds = time.perf_counter() - begin
        return TokenPrompts(setting.reader, rows, [len(ids) for ids in kept], seconds)

    def kept(self, index: int) -> list[int]:
        """Token ids of one context that are left."""
        context, budget = self.setting.contexts[index], self.setting.budgets[index]
        told = surprisal(self.setting.reader, context)
        order = told.sort(descending=True, stable=True).indices[:budget]
        return [context[place] for place in order.sort().values.tolist()]


@torch.no_grad()
def surprisal(reader: Reader, ids: Sequence[int]) -> Tensor:
    """Nats [t] float32 of every token after those before it.

    A first token that nothing stands before counts as a uniform guess, ln V.
    """
    nll = score(reader, empty_prefix(reader, 1), [[]], [ids]).nll if len(ids) else torch.zeros(0)
    guessed = nll.new_full((len(ids) - len(nll),), math.log(reader.vocabulary))
    return torch.cat([guessed, nll])
