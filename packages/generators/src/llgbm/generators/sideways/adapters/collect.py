"""A collection of adapter runs: taught, measured, indexed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.sideways.adapters.blocks import blocks_of, from_blocks
from llgbm.generators.sideways.adapters.measure import ACCURACY, AT_ONCE, OTHERS
from llgbm.generators.sideways.adapters.source import AdapterWorld
from llgbm.generators.sideways.adapters.teach import (
    checkpoint_file,
    plan_runs,
    require_examples,
    teach_runs,
)
from llgbm.generators.sideways.collection.collection import (
    INDEX,
    Collection,
    check_records,
    read_blocks,
)
from llgbm.generators.sideways.collection.records import CheckpointRecord

SETTINGS, MEASURED = "source.json", "measured.json"


def collect_adapters(folder: Path, world: AdapterWorld) -> Collection:
    """Teach and measure what the collection still lacks; write its index.

    Args:
        folder: of the collection; one with the same settings is gone on with.
        world: base, task and settings.

    Raises:
        RunError: the folder holds a collection of other settings.
    """
    # Before anything is written: what cannot be taught leaves no folder behind.
    require_examples(world.runs)
    begin(folder, world.source())
    runs = plan_runs(world)
    teach_runs(world, runs, folder)
    every = world.runs.keep_every
    steps = range(every, world.runs.steps + 1, every)
    return index(
        folder,
        world,
        {(run.name, step): run.hyperparameters.numbers() for run in runs for step in steps},
    )


def begin(folder: Path, source: Mapping[str, Any]) -> None:
    """Begin a collection, or check that the one that is there has the same settings.

    Raises:
        RunError: it has others.
    """
    source = _as_json(source)
    path = folder / SETTINGS
    if not path.exists():
        if (folder / INDEX).exists():
            raise RunError(f"{folder}: holds a collection of other checkpoints: choose another")
        write_json(path, source)
        return
    before = read_json(path, RunError)
    for key in sorted(source.keys() | before.keys()):
        if source.get(key) != before.get(key):
            raise RunError(
                mismatch(path, key, f"{before.get(key)} as before", source.get(key))
                + "; choose another folder for other settings"
            )


def index(
    folder: Path, world: AdapterWorld, steps: Mapping[tuple[str, int], Mapping[str, float]]
) -> Collection:
    """Measure checkpoints that are there and write the collection's index.

    Args:
        folder: of the collection.
        world: base, task and settings.
        steps: hyperparameters by run and step.
    """
    files = {key: checkpoint_file(*key) for key in steps}
    metrics = _telling(_measured(folder, world, list(files.values())))
    records = [
        CheckpointRecord(run, step, metrics[files[run, step]], numbers, files[run, step])
        for (run, step), numbers in steps.items()
    ]
    check_records(records, folder)
    source = _as_json(world.source())
    made = Collection(folder, blocks_of(world.spec), tuple(records), source)
    made.write()
    return made


def _as_json(content: Mapping[str, Any]) -> dict[str, Any]:
    """What reading back what was written gives."""
    return dict(json.loads(json.dumps(content)))


def _telling(metrics: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Metrics by file without accuracies that are the same everywhere: few examples tell little."""
    still = [
        name
        for name in (ACCURACY, OTHERS)
        if len({each.get(name) for each in metrics.values()}) == 1
    ]
    for name in still:
        if any(name in each for each in metrics.values()):
            print(f"{name}: the same in all {len(metrics)} checkpoints, left out: score more")
    return {
        file: {name: value for name, value in each.items() if name not in still}
        for file, each in metrics.items()
    }


def load_adapters(folder: Path, world: AdapterWorld, files: Sequence[str]) -> LoRAWeights:
    """Adapters of some of a collection's files."""
    blocks = blocks_of(world.spec)
    read = [read_blocks(folder / file, blocks) for file in files]
    stacked = {block.name: torch.stack([each[block.name] for each in read]) for block in blocks}
    return from_blocks(world.spec, stacked)


def _measured(
    folder: Path, world: AdapterWorld, wanted: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Metrics of checkpoints by their file; those noted before are not measured again."""
    path = folder / MEASURED
    found: dict[str, dict[str, float]] = read_json(path, RunError) if path.exists() else {}
    left = [file for file in wanted if file not in found]
    if not left:
        return found
    meter = world.meter()
    with tqdm(total=len(left), desc="metrics", unit="checkpoint", mininterval=1.0) as bar:
        for start in range(0, len(left), AT_ONCE):
            files = left[start : start + AT_ONCE]
            values = meter.measure(load_adapters(folder, world, files))
            found |= dict(zip(files, values, strict=True))
            write_json(path, found)
            bar.update(len(files))
    return found
