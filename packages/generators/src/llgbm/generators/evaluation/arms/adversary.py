"""The adversary arm: an edit of rank one that has the teacher's delta and not its behaviour."""

from __future__ import annotations

from llgbm.generators.evaluation.arms.context import ArmContext
from llgbm.generators.evaluation.pool import AdapterPool


def rank1(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """Rank-1 edit of the last down_proj with the mean generic delta of the first teacher."""
    pool.add("rank1", f"rank1:{index}", lambda: context.rank_one.select([index]))
