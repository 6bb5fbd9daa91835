"""Teachers that a VAE does not see: of the tasks trained on, and of other families."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llgbm.deltas.errors import RunError
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.conditions import Condition
from llgbm.generators.training.inputs import TrainingInputs


@dataclass(frozen=True)
class HeldOutTeachers:
    """Teachers to rebuild, and what they are told from.

    Attributes:
        tasks: of each.
        weights: n adapters.
        deltas: [n, *delta_shape] float32.
        conditions: n, of prompts that no teacher saw.
        sources: the same teachers of another base, which latents are read off; the teachers
            themselves where None.
    """

    tasks: tuple[str, ...]
    weights: LoRAWeights
    deltas: Tensor
    conditions: tuple[Condition, ...]
    sources: LoRAWeights | None = None

    @property
    def read(self) -> LoRAWeights:
        """What their latents are read off."""
        return self.weights if self.sources is None else self.sources


def keep_back(inputs: TrainingInputs, count: int) -> tuple[TrainingInputs, HeldOutTeachers]:
    """Take the last `count` teachers of every task out of the inputs.

    Args:
        inputs: of a training.
        count: teachers of each task, at least 1.

    Returns:
        The inputs without them, and them.

    Raises:
        RunError: a task that would be left without a teacher.
    """
    by_task: dict[str, list[int]] = {}
    for place, entry in enumerate(inputs.entries):
        by_task.setdefault(entry.task, []).append(place)
    for task, places in by_task.items():
        if len(places) <= count:
            raise RunError(
                f"teachers of {task}: expected more than the {count} held out, got {len(places)}: "
                "run `llgbm teach` with more --teachers-per-task, or lower --hold-out"
            )
    out = [place for places in by_task.values() for place in places[-count:]]
    left = [place for place in range(len(inputs.entries)) if place not in set(out)]
    told = dict(zip(inputs.seen.tasks, inputs.seen.conditions, strict=True))
    tasks = tuple(inputs.entries[place].task for place in out)
    kept = replace(
        inputs,
        entries=tuple(inputs.entries[place] for place in left),
        weights=inputs.weights.select(left),
        prompts=tuple(inputs.prompts[place] for place in left),
        deltas=inputs.deltas[torch.tensor(left)],
        sources=None if inputs.sources is None else inputs.sources.select(left),
    )
    held = HeldOutTeachers(
        tasks,
        inputs.weights.select(out),
        inputs.deltas[torch.tensor(out)],
        tuple(told[task] for task in tasks),
        None if inputs.sources is None else inputs.sources.select(out),
    )
    return kept, held


def as_teachers(inputs: TrainingInputs) -> HeldOutTeachers:
    """Return the teachers that are trained on, told from the prompts of validation."""
    told = dict(zip(inputs.seen.tasks, inputs.seen.conditions, strict=True))
    tasks = tuple(entry.task for entry in inputs.entries)
    return HeldOutTeachers(
        tasks,
        inputs.weights,
        inputs.deltas,
        tuple(told[task] for task in tasks),
        inputs.sources,
    )
