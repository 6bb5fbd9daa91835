"""Teach adapter runs in batches, keeping checkpoints along the way; resumable."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from llgbm.deltas.atomic import save_tensors
from llgbm.deltas.errors import TaskError
from llgbm.deltas.spec import device_of
from llgbm.deltas.task import Example
from llgbm.deltas.tasks import load_task
from llgbm.deltas.tensor_state import read_tensors
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.sideways.adapters.blocks import to_blocks
from llgbm.generators.sideways.adapters.hyperparameters import RunHyperparameters
from llgbm.generators.sideways.adapters.source import AdapterRuns, AdapterWorld
from llgbm.generators.sideways.collection.collection import WEIGHTS
from llgbm.generators.teachers.batched import BatchedTeachers, TeacherOptim
from llgbm.generators.teachers.shards import Shard
from llgbm.generators.teachers.teach import TOKENS_AT_ONCE


@dataclass(frozen=True)
class AdapterRun:
    """One training.

    Attributes:
        name: of the run.
        hyperparameters: of it.
        shard: its examples, with the replayed ones among them.
    """

    name: str
    hyperparameters: RunHyperparameters
    shard: Shard


def require_examples(settings: AdapterRuns) -> None:
    """Check that the task has the examples that runs ask for.

    Raises:
        TaskError: fewer training examples than a run may ask for.
    """
    task = load_task(settings.task, seed=settings.seed)
    most = max(each.examples for each in settings.ranges.draw(settings.runs, settings.seed))
    if len(task.train) < most:
        raise TaskError(
            f"{task.name}: training examples: expected at least {most}, as examples_high asks, "
            f"got {len(task.train)}"
        )


def plan_runs(world: AdapterWorld) -> list[AdapterRun]:
    """Draw every run's hyperparameters and examples."""
    settings = world.runs
    task = load_task(settings.task, seed=settings.seed)
    drawn = settings.ranges.draw(settings.runs, settings.seed)
    replayed = world.texts.continued(world.model, world.tokenizer, world.spec)
    runs = []
    for index, each in enumerate(drawn):
        name = f"run_{index:03d}"
        own = list(task.train)
        random.Random(f"{settings.seed}:{name}:examples").shuffle(own)
        examples = mixed(own[: each.examples], replayed, each.replay)
        runs.append(AdapterRun(name, each, Shard(name, task.name, task.family, "train", examples)))
    return runs


def mixed(own: Sequence[Example], replayed: Sequence[Example], share: float) -> tuple[Example, ...]:
    """A run's examples with so many replayed ones that they are `share` of all, some repeated."""
    count = round(len(own) * share / (1 - share)) if replayed else 0
    return (*own, *(replayed[index % len(replayed)] for index in range(count)))


def checkpoint_file(run: str, step: int) -> str:
    """Where a checkpoint lies inside a collection."""
    return f"{WEIGHTS}/{run}/step_{step:05d}.safetensors"


def teach_runs(world: AdapterWorld, runs: Sequence[AdapterRun], folder: Path) -> None:
    """Train what is missing; every checkpoint is a file of its own, written once it is reached.

    Args:
        world: base and settings.
        runs: all of them.
        folder: of the collection.
    """
    settings = world.runs
    last = settings.steps
    left = [run for run in runs if not (folder / checkpoint_file(run.name, last)).exists()]
    groups = _groups(left, settings, device_of(world.model).type)
    with tqdm(total=len(groups) * last, desc="runs", unit="step", mininterval=1.0) as bar:
        for group in groups:
            _teach_group(world, group, folder, bar)


def _groups(
    runs: Sequence[AdapterRun], settings: AdapterRuns, device: str
) -> list[list[AdapterRun]]:
    """Runs that are trained side by side, by the tokens of a step at their longest."""
    tokens = settings.examples_per_step * settings.max_tokens
    # Examples are half as long as allowed, or shorter.
    size = max(1, 2 * TOKENS_AT_ONCE.get(device, TOKENS_AT_ONCE["cpu"]) // tokens)
    return [list(runs[start : start + size]) for start in range(0, len(runs), size)]


def _teach_group(world: AdapterWorld, group: Sequence[AdapterRun], folder: Path, bar: tqdm) -> None:
    """Train one group to its end, from its last kept step where there is one."""
    settings = world.runs
    generator = torch.Generator().manual_seed(settings.seed)
    highest = max(run.hyperparameters.lr for run in group)
    teachers = BatchedTeachers(
        world.model,
        world.tokenizer,
        [run.shard for run in group],
        LoRAWeights.initial(world.spec, len(group), generator),
        TeacherOptim(
            steps=settings.steps,
            examples_per_step=settings.examples_per_step,
            lr=highest,
            warmup_steps=min(3, settings.steps),
            max_tokens=settings.max_tokens,
        ),
        settings.seed,
        lr_scale=[run.hyperparameters.lr / highest for run in group],
    )
    state = folder / f".state-{group[0].name}-{group[-1].name}.safetensors"
    if state.exists():
        teachers.load_state(read_tensors(state))
        bar.update(teachers.step)
    while teachers.step < settings.steps:
        losses, _ = teachers.train_step()
        bar.update()
        bar.set_postfix(loss=f"{losses.mean():.3f}", refresh=False)
        if teachers.step % settings.keep_every == 0:
            weights = teachers.weights.to("cpu")
            weights.check_finite(f"{group[0].name} to {group[-1].name}, step {teachers.step}")
            for index, run in enumerate(group):
                path = folder / checkpoint_file(run.name, teachers.step)
                save_tensors(path, to_blocks(weights, index))
            save_tensors(state, teachers.state())
    state.unlink(missing_ok=True)
