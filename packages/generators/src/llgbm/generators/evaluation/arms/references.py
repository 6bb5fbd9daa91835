"""Arms without a generator: the base, the base told what to do, one LoRA for all, the teacher."""

from __future__ import annotations

from functools import partial

from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.arms.context import ArmContext
from llgbm.generators.evaluation.multi_task import multi_task_adapter
from llgbm.generators.evaluation.pool import AdapterPool


def base(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """The base model: an adapter that changes nothing."""
    pool.add("base", "base", lambda: LoRAWeights.zeros(context.train.spec))


def described(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """The base with the task's description before each query: in context, no adapter.

    It is the same sentence that `generated_description` is written from. A task without
    descriptions has no such arm.
    """
    description = context.tasks[index].description
    if description:
        pool.add(
            "described",
            "described",
            lambda: LoRAWeights.zeros(context.train.spec),
            prefix=description,
        )


def multi_task(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """One LoRA trained on all training teachers' examples."""
    pool.add(
        "multi_task",
        "multi_task",
        lambda: context.once(
            "multi_task",
            lambda: multi_task_adapter(
                context.run,
                context.manifest,
                context.train.spec,
                context.model,
                context.tokenizer,
                context.settings.multi_task_factor,
            ),
        ),
    )


def teacher(context: ArmContext, index: int, pool: AdapterPool) -> None:
    """The task's own teachers: the oracle."""
    for entry in context.teacher_entries(index):
        pool.add("teacher", f"teacher:{entry.id}", partial(context.teacher, entry))
