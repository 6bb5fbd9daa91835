"""A collection: collection.json and a file of weights for each checkpoint.

Weights are read one checkpoint at a time, so that a collection may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cattrs
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.json_files import read_json
from llgbm.generators.sideways.collection.records import Block, CheckpointRecord

INDEX, WEIGHTS = "collection.json", "weights"
SCHEMA, KIND = 1, "checkpoint collection"
FEWEST_RUNS = 3
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class Collection:
    """Checkpoints of many runs.

    Attributes:
        folder: where the weights are.
        blocks: of every checkpoint, in the order of the files.
        checkpoints: by run, then by step.
        source: what they are and how they were measured, as JSON; `kind` is `files` or `adapters`.
    """

    folder: Path
    blocks: tuple[Block, ...]
    checkpoints: tuple[CheckpointRecord, ...]
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return tuple(self.checkpoints[0].metrics)

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """Names of the hyperparameters."""
        return tuple(self.checkpoints[0].hyperparameters)

    @cached_property
    def runs(self) -> dict[str, list[int]]:
        """Places of each run's checkpoints, by step."""
        found: dict[str, list[int]] = {}
        for place, record in enumerate(self.checkpoints):
            found.setdefault(record.run, []).append(place)
        return found

    def metric_table(self) -> Tensor:
        """[n, metrics] float32."""
        return torch.tensor(
            [[each.metrics[name] for name in self.metrics] for each in self.checkpoints]
        )

    def hyperparameter_table(self) -> Tensor:
        """[n, hyperparameters] float32."""
        names = self.hyperparameters
        rows = [[each.hyperparameters[name] for name in names] for each in self.checkpoints]
        return torch.tensor(rows).view(len(rows), len(names))

    @property
    def fingerprint(self) -> str:
        """sha256 of all that is known of the checkpoints, their weights' files by name."""
        return text_fingerprint([asdict(each) for each in self.checkpoints])

    def weights(self, place: int) -> dict[str, Tensor]:
        """Read one checkpoint, float32 by block name.

        Raises:
            RunError: missing, damaged, or with other blocks than the index says.
        """
        return read_blocks(self.folder / self.checkpoints[place].file, self.blocks)

    def write(self) -> None:
        """Write the index; the weights are there already."""
        content = {
            "blocks": [asdict(each) for each in self.blocks],
            "checkpoints": [asdict(each) for each in self.checkpoints],
            "source": dict(self.source),
        }
        write_json(self.folder / INDEX, {"schema": SCHEMA, "kind": KIND, **content})

    @classmethod
    def read(cls, folder: Path) -> Collection:
        """Read and check an index; weights are read when they are asked for.

        Raises:
            RunError: missing, malformed, or a collection that nothing can be learned from.
        """
        path = folder / INDEX
        if not path.exists():
            raise RunError(f"{path}: not found: run `llgbm sideways collect` first")
        content = read_json(path, RunError)
        found = (content.pop("schema", None), content.pop("kind", None))
        if found != (SCHEMA, KIND):
            raise RunError(mismatch(path, "schema and kind", (SCHEMA, KIND), found))
        try:
            blocks = _CONVERTER.structure(content["blocks"], tuple[Block, ...])
            records = _CONVERTER.structure(content["checkpoints"], tuple[CheckpointRecord, ...])
        except (KeyError, TypeError, cattrs.BaseValidationError) as error:
            raise RunError(f"{path}: expected blocks and checkpoints, got {error}") from error
        made = cls(folder, blocks, records, content.get("source", {}))
        check_records(records, path)
        return made


def read_blocks(path: Path, blocks: Sequence[Block]) -> dict[str, Tensor]:
    """Read the named blocks of a safetensors file as float32.

    Raises:
        RunError: missing, damaged, another shape, NaN or Inf.
    """
    found = {}
    try:
        with safe_open(path, framework="pt") as opened:
            keys = set(opened.keys())
            for block in blocks:
                if block.name not in keys:
                    raise RunError(f"{path}: {block.name}: not found")
                tensor = opened.get_tensor(block.name)
                if tuple(tensor.shape) != block.shape:
                    raise RunError(mismatch(path, block.name, block.shape, tuple(tensor.shape)))
                found[block.name] = tensor.float()
    except (OSError, SafetensorError) as error:
        raise RunError(f"{path}: not a whole safetensors file ({error})") from error
    for name, tensor in found.items():
        if not torch.isfinite(tensor).all():
            raise RunError(f"{path}: {name}: expected finite values, got NaN or Inf")
    return found


def check_records(records: Sequence[CheckpointRecord], where: Path) -> None:
    """Refuse records that nothing can be learned from.

    Raises:
        RunError: none, one run only, a step twice, metrics or hyperparameters that are missing
            somewhere or not finite, or a metric that never changes.
    """
    if not records:
        raise RunError(mismatch(where, "checkpoints", "at least one", "none"))
    runs = sorted({each.run for each in records})
    if len(runs) < FEWEST_RUNS:
        raise RunError(
            f"{where}: runs: expected at least {FEWEST_RUNS}, to train on, to choose by and to "
            f"test on, got {runs}"
        )
    seen: set[tuple[str, int]] = set()
    for each in records:
        name = f"{each.run}, step {each.step}"
        if (each.run, each.step) in seen:
            raise RunError(f"{where}: {name}: expected once, got twice")
        seen.add((each.run, each.step))
        for kind in ("metrics", "hyperparameters"):
            values, first = getattr(each, kind), getattr(records[0], kind)
            if set(values) != set(first):
                raise RunError(mismatch(where, f"{name}: {kind}", sorted(first), sorted(values)))
            for key, value in values.items():
                if not float("-inf") < value < float("inf"):
                    raise RunError(mismatch(where, f"{name}: {key}", "a finite number", value))
    if not records[0].metrics:
        raise RunError(mismatch(where, "metrics", "at least one", "none"))
    for key in records[0].metrics:
        values = {each.metrics[key] for each in records}
        if len(values) == 1:
            raise RunError(
                f"{where}: metric {key!r}: expected values that differ, got {values.pop():g} in "
                f"all {len(records)} checkpoints: leave it out"
            )
