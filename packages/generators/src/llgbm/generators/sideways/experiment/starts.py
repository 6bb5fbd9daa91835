"""Steps that a training needs to a target: from a proposed start, a checkpoint, and afresh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import geometric_mean

import torch

from llgbm.deltas.tasks import load_task
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.sideways.adapters.blocks import from_blocks
from llgbm.generators.sideways.adapters.measure import GAIN, RETENTION, AdapterMeter
from llgbm.generators.sideways.adapters.source import AdapterWorld
from llgbm.generators.sideways.explore.find_start import (
    InitSearch,
    find_start,
    nearest_places,
)
from llgbm.generators.sideways.model.files import SidewaysModel
from llgbm.generators.teachers.batched import BatchedTeachers, TeacherOptim
from llgbm.generators.teachers.shards import Shard

# Of the training checkpoints: what a target gains,
# and how much less is lost than any of these loses: no training checkpoint is there.
GAIN_QUANTILE, LESS_LOST = 0.9, 0.75
PROPOSED, NEAREST, FRESH = "proposed start", "nearest checkpoint", "fresh start"


@dataclass(frozen=True)
class StartRow:
    """One start.

    Attributes:
        steps: first measured step at which both metrics reach the target; None where none does.
        first: metrics of the start itself.
        last: after all steps.
    """

    steps: int | None
    first: Mapping[str, float]
    last: Mapping[str, float]


def target_of(model: SidewaysModel) -> dict[str, float]:
    """Gain that a tenth of the training checkpoints have, and more retention than any of these."""
    table = model.train_table.metrics
    gain, kept = table[:, model.metric(GAIN)], table[:, model.metric(RETENTION)]
    high = float(gain.quantile(GAIN_QUANTILE))
    return {GAIN: high, RETENTION: LESS_LOST * float(kept[gain >= high].max())}


def measure_starts(
    model: SidewaysModel,
    world: AdapterWorld,
    meter: AdapterMeter,
    steps: int,
    every: int,
    seed: int,
) -> dict[str, StartRow]:
    """Train from every start on the same examples, side by side.

    Args:
        model: that proposes.
        world: base and task.
        meter: of the examples that a target is told by.
        steps: most.
        every: steps between measurements.
        seed: of the search, and of the data's order.
    """
    target = target_of(model)
    starts = _starts(model, world, target, seed)
    task = load_task(world.runs.task, seed=world.runs.seed)
    names = list(starts)
    ranges = world.runs.ranges
    shards = [Shard(f"start-{seed}", task.name, task.family, "train", task.train) for _ in names]
    teachers = BatchedTeachers(
        world.model,
        world.tokenizer,
        shards,
        LoRAWeights.concatenate([starts[name] for name in names]),
        TeacherOptim(
            steps=steps,
            examples_per_step=world.runs.examples_per_step,
            lr=geometric_mean([ranges.lr_low, ranges.lr_high]),
            warmup_steps=min(3, steps),
            max_tokens=world.runs.max_tokens,
        ),
        seed,
    )
    reached: dict[int, int] = {}
    first: list[dict[str, float]] = []
    last: list[dict[str, float]] = []
    for step in range(steps + 1):
        if step:
            teachers.train_step()
        # What has reached the target is not looked at again before the end.
        all_of_them = step in (0, steps)
        places = [place for place in range(len(names)) if all_of_them or place not in reached]
        if not places or (step % every and not all_of_them):
            continue
        last = meter.measure(teachers.weights.select(places))
        first = first or last
        for place, values in zip(places, last, strict=True):
            if all(values[metric] >= value for metric, value in target.items()):
                reached.setdefault(place, step)
    return {
        name: StartRow(reached.get(place), first[place], last[place])
        for place, name in enumerate(names)
    }


def _starts(
    model: SidewaysModel, world: AdapterWorld, target: Mapping[str, float], seed: int
) -> dict[str, LoRAWeights]:
    """Adapters to start from."""
    proposed = find_start(model, target, InitSearch(seed=seed)).weights(model)
    # What is more than wanted does not count.
    place = nearest_places(model, target, short_only=True)[0]
    read = {name: each[None] for name, each in model.collection.weights(place).items()}
    generator = torch.Generator().manual_seed(world.runs.seed)
    return {
        PROPOSED: from_blocks(world.spec, proposed),
        NEAREST: from_blocks(world.spec, read),
        FRESH: LoRAWeights.initial(world.spec, 1, generator),
    }
