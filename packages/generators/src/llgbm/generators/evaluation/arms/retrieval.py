"""Retrieval arms: a teacher, or a merge of some, that is near by text or by delta."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

from llgbm.deltas.merging import MergeMethod, merge
from llgbm.deltas.retrieval import retrieve
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.arms.context import ArmContext
from llgbm.generators.evaluation.pool import AdapterPool


def nearest(query: Tensor, candidates: Tensor) -> int:
    """Index of the candidate with the largest cosine to `query`, by embedding or by delta.

    Args:
        query: [...].
        candidates: [N, ...].
    """
    return int(retrieve(query, candidates, 1)[0])


def nearest_text(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """The training teacher whose prompts' mean embedding is nearest to the condition's."""
    _share(context, pool, "nearest_text", nearest(context.texts[index], context.teacher_texts))


def nearest_delta(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """The training teacher whose delta is nearest to the one each generator predicts.

    None where a generator predicts nothing: its delta head was not trained.
    """
    if not all(bool(output.deltas.any()) for output in context.outputs):
        return
    for output in context.outputs:
        _share(context, pool, "nearest_delta", nearest(output.deltas[index], context.deltas))


def retrieved(method: MergeMethod) -> Callable[[ArmContext, int, AdapterPool], None]:
    """Return the arm that merges the nearest teachers by delta with `method`, in ΔW."""
    arm = f"retrieved_{method}"

    def fill(context: ArmContext, index: int, pool: AdapterPool) -> None:
        """Merge the k nearest teachers by each generator's predicted delta, if it predicts any."""
        if not all(bool(output.deltas.any()) for output in context.outputs):
            return
        for output in context.outputs:
            found = retrieve(output.deltas[index], context.deltas, context.settings.neighbours)[0]
            places = sorted(found.tolist())
            key = f"{arm}:{','.join(map(str, places))}"
            make = partial(_merged, context, places, method, key)
            pool.add(arm, key, partial(context.once, key, make))

    return fill


def predicted_average(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """The average of the k teachers nearest to the retriever's delta, where the run has one."""
    if context.retrieved_deltas is None:
        return
    query = context.retrieved_deltas[index]
    found = retrieve(query, context.deltas, context.settings.neighbours)[0]
    places = sorted(found.tolist())
    key = f"retrieved_average:{','.join(map(str, places))}"
    pool.add(
        "predicted_average",
        key,
        partial(context.once, key, partial(_merged, context, places, "average", key)),
    )


def _merged(context: ArmContext, places: list[int], method: MergeMethod, key: str) -> LoRAWeights:
    """Merge the training teachers at `places` with equal shares."""
    # TIES divides by the number of adapters that agree, so it takes shares of 1; DARE and the
    # average add up what they are given.
    share = 1.0 if method == "ties" else 1.0 / len(places)
    return merge(
        context.train.select(places).to(context.device),
        [share] * len(places),
        method,
        density=context.settings.density,
        generator=context.drawn(key),
    )


def _share(context: ArmContext, pool: AdapterPool, arm: str, found: int) -> None:
    """Give `arm` a training teacher under the key that the task's own teachers have."""
    key = f"teacher:{context.train_entries[found].id}"
    pool.add(arm, key, lambda: context.train.select([found]))
