"""A collection of anybody's checkpoints: FOLDER/RUN/STEP, with what was measured of each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from llgbm.deltas import atomic
from llgbm.deltas.atomic import save_tensors
from llgbm.deltas.errors import RunError, mismatch
from llgbm.generators.sideways.collection.checkpoint_files import (
    CheckpointFile,
    is_checkpoint,
    peft_config,
    read_checkpoint,
)
from llgbm.generators.sideways.collection.collection import WEIGHTS, Collection, check_records
from llgbm.generators.sideways.collection.key_filter import chosen_keys
from llgbm.generators.sideways.collection.metric_files import (
    RUN_FILE,
    Key,
    Measured,
    read_run_file,
    read_table,
)
from llgbm.generators.sideways.collection.records import Block, CheckpointRecord

KIND, PEFT = "files", "peft"


@dataclass(frozen=True)
class FolderSource:
    """Checkpoints that are there already.

    A run is a folder; a checkpoint in it is a `.safetensors`, `.pt` or `.pth` file or a PEFT
    folder, whose name ends in its step. Metrics stand in the run's metrics.json
    ({"hyperparameters": {...}, "steps": {"100": {"accuracy": 0.7}}}), in `table`, or in the `.pt`
    file itself.

    Args:
        folder: of the runs.
        table: CSV with columns `run`, `step` and one a number.
        metrics: names to learn; all where empty.
        hyperparameters: names to learn, of `table` those columns that are no metrics; all that
            metrics.json has where empty.
        keep: patterns of weights' names, as `*.weight`; all where empty.
        leave: patterns of weights' names that do not matter.
    """

    folder: Path | None = None
    table: Path | None = None
    metrics: tuple[str, ...] = ()
    hyperparameters: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    leave: tuple[str, ...] = ()


def collect_folders(out: Path, source: FolderSource) -> Collection:
    """Copy the chosen weights of every checkpoint, one at a time; write the index.

    Args:
        out: folder of the collection; it appears whole or not at all.
        source: what to read.

    Raises:
        RunError: no checkpoints, shapes that disagree, a checkpoint without metrics, NaN, one run
            only, or a metric that never changes.
        SettingError: patterns that leave nothing.
    """
    assert source.folder is not None
    if out.exists():
        raise RunError(f"{out}: expected a new folder, got one that exists")
    found = find_checkpoints(source.folder)
    measured = _measured(source, found)
    records: list[CheckpointRecord] = []
    blocks: tuple[Block, ...] = ()
    first: Path | None = None
    with atomic.folder(out, replace=False) as new:
        bar = tqdm(sorted(found.items()), desc="checkpoints", unit="checkpoint", mininterval=1.0)
        for (run, step), path in bar:
            file = read_checkpoint(path)
            numbers = _wanted(file, measured.get((run, step)), source, path)
            if first is None:
                keys = chosen_keys(file.tensors, source.keep, source.leave, path)
                blocks = tuple(Block(key, tuple(file.tensors[key].shape)) for key in keys)
                first = path
            chosen = chosen_blocks(file.tensors, blocks, path, first)
            name = f"{WEIGHTS}/{run}/step_{step:07d}.safetensors"
            save_tensors(new / name, chosen)
            records.append(
                CheckpointRecord(
                    run, step, numbers.metrics, numbers.hyperparameters, name, str(path.name)
                )
            )
        check_records(records, source.folder)
        details: dict[str, Any] = {"kind": KIND, "keep": list(source.keep)}
        config = peft_config(list(found.values()))
        if config is not None and len(keys) == len(file.tensors):
            details[PEFT] = config
        Collection(new, blocks, tuple(records), details).write()
    return Collection.read(out)


def find_checkpoints(folder: Path) -> dict[Key, Path]:
    """Every checkpoint below a folder by its run and step.

    Raises:
        RunError: no such folder, none in it, a name without a step, or a step twice.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: not a folder")
    found: dict[Key, Path] = {}
    for path in sorted(folder.rglob("*")):
        if not is_checkpoint(path) or any(is_checkpoint(each) for each in path.parents):
            continue
        steps = re.findall(r"\d+", path.stem if path.is_file() else path.name)
        if not steps:
            raise RunError(mismatch(path, "name", "one that ends in its step", path.name))
        key = (path.parent.relative_to(folder).as_posix(), int(steps[-1]))
        if key in found:
            raise RunError(f"{path}: expected step {key[1]} once in a run, got {found[key].name}")
        found[key] = path
    if not found:
        raise RunError(
            mismatch(folder, "checkpoints", "RUN/…STEP.safetensors, .pt, .pth or PEFT", "none")
        )
    return found


def _measured(source: FolderSource, found: Mapping[Key, Path]) -> dict[Key, Measured]:
    assert source.folder is not None
    if source.table is not None:
        return read_table(source.table, source.hyperparameters)
    known: dict[Key, Measured] = {}
    for run in sorted({run for run, _ in found}):
        path = source.folder / run / RUN_FILE
        if path.exists():
            known |= read_run_file(path, run)
    return known


def _wanted(
    file: CheckpointFile, beside: Measured | None, source: FolderSource, path: Path
) -> Measured:
    """The chosen numbers of a checkpoint; of each kind those beside it go before those inside."""
    whole = Measured(
        (beside.metrics if beside else None) or file.metrics,
        (beside.hyperparameters if beside else None) or file.hyperparameters,
    )
    if not whole.metrics:
        raise RunError(
            f"{path}: metrics: not found in {RUN_FILE} of its run, in a table, or in the file"
        )
    return Measured(
        _named(whole.metrics, source.metrics, path, "metric"),
        _named(whole.hyperparameters, source.hyperparameters, path, "hyperparameter"),
    )


def _named(
    values: Mapping[str, float], names: Sequence[str], path: Path, what: str
) -> dict[str, float]:
    for name in names:
        if name not in values:
            raise RunError(mismatch(path, what, name, f"only {sorted(values)}"))
    return {name: values[name] for name in names or sorted(values)}


def chosen_blocks(
    tensors: Mapping[str, Tensor], blocks: Sequence[Block], path: Path, first: Path
) -> dict[str, Tensor]:
    """The blocks of one checkpoint as float32, checked against the first one's."""
    chosen = {}
    for block in blocks:
        got = tensors.get(block.name)
        if got is None or tuple(got.shape) != block.shape:
            shape = "nothing" if got is None else tuple(got.shape)
            raise RunError(mismatch(path, block.name, f"{block.shape} as in {first}", shape))
        # A copy: tied weights are one tensor under two names, which no safetensors file holds.
        values = got.float().clone()
        if not torch.isfinite(values).all():
            raise RunError(f"{path}: {block.name}: expected finite values, got NaN or Inf")
        chosen[block.name] = values
    return chosen
