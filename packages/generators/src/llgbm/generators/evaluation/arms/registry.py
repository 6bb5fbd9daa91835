"""All arms by name, in the order in which tables show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llgbm.deltas.errors import SettingError
from llgbm.generators.evaluation.arms import adversary, generated, nulls, references, retrieval
from llgbm.generators.evaluation.arms.context import ArmContext
from llgbm.generators.evaluation.pool import AdapterPool


@dataclass(frozen=True)
class Arm:
    """An arm of the evaluation.

    Attributes:
        words: for tables.
        fill: adds the arm's adapters for a task to a pool; adds none where the task has none.
        default: scored unless other arms are asked for.
        per_generator: made once by every generator, in their order.
    """

    words: str
    fill: Callable[[ArmContext, int, AdapterPool], None]
    default: bool = True
    per_generator: bool = False


REGISTRY = {
    "base": Arm("base model", references.base),
    "described": Arm("base, description in context", references.described),
    "multi_task": Arm("one LoRA for all tasks", references.multi_task, default=False),
    "random": Arm("random LoRA, norms matched", nulls.random),
    "mean_adapter": Arm("mean of the teachers", nulls.mean),
    "gaussian": Arm("drawn from the teachers' Gaussian", nulls.gaussian, default=False),
    "teacher_noise": Arm("teacher + noise", nulls.noise, default=False),
    "nearest_text": Arm("nearest teacher by text", retrieval.nearest_text),
    "nearest_delta": Arm("nearest teacher by delta", retrieval.nearest_delta, per_generator=True),
    "retrieved_average": Arm(
        "nearest by delta, averaged", retrieval.retrieved("average"), per_generator=True
    ),
    "predicted_average": Arm(
        "nearest by the retriever's delta, averaged", retrieval.predicted_average
    ),
    # Entry by entry: these form every ΔW, which takes most of a minute a task on a CPU.
    "retrieved_ties": Arm(
        "nearest by delta, TIES", retrieval.retrieved("ties"), default=False, per_generator=True
    ),
    "retrieved_dare": Arm(
        "nearest by delta, DARE", retrieval.retrieved("dare"), default=False, per_generator=True
    ),
    "rank1": Arm("rank-1 delta matcher (adversary)", adversary.rank1, default=False),
    "generated": Arm("generated from prompts", generated.generated, per_generator=True),
    "generated_description": Arm(
        "generated from a sentence", generated.generated_description, per_generator=True
    ),
    "generated_shuffled": Arm(
        "generated, wrong condition", generated.generated_shuffled, per_generator=True
    ),
    "teacher": Arm("teacher (oracle)", references.teacher),
}
ARMS = tuple(REGISTRY)
ARM_WORDS = {name: arm.words for name, arm in REGISTRY.items()}
# The metrics are made of these.
NEEDED = ("base", "mean_adapter", "generated", "teacher")


def choose_arms(names: Sequence[str]) -> tuple[str, ...]:
    """Return arms in table order.

    Args:
        names: of arms; `default` and `all` stand for several, and what the metrics need is
            always there.

    Raises:
        SettingError: an unknown name.
    """
    unknown = [name for name in names if name not in (*ARMS, "default", "all")]
    if unknown:
        raise SettingError(f"arms: expected all, default or some of {list(ARMS)}, got {unknown}")
    wanted = {*names, *NEEDED}
    if "all" in wanted:
        return ARMS
    return tuple(
        name
        for name, arm in REGISTRY.items()
        if name in wanted or ("default" in wanted and arm.default)
    )


def fill_pool(context: ArmContext, arms: Sequence[str], index: int) -> AdapterPool:
    """Return the adapters of task number `index` in the chosen arms."""
    pool = AdapterPool()
    for name in arms:
        REGISTRY[name].fill(context, index, pool)
    return pool
