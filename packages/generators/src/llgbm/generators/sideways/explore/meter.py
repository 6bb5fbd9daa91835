"""Measuring decoded checkpoints for real: adapters here, anything else by the user's command."""

from __future__ import annotations

import json
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from torch import Tensor
from tqdm import tqdm

from llgbm.deltas.atomic import save_tensors, write_json
from llgbm.deltas.errors import RunError, SettingError, mismatch
from llgbm.deltas.peft_format import save_adapter
from llgbm.generators.sideways.adapters.blocks import from_blocks
from llgbm.generators.sideways.adapters.measure import AdapterMeter
from llgbm.generators.sideways.adapters.source import KIND, AdapterWorld
from llgbm.generators.sideways.collection.checkpoint_files import ADAPTER, ADAPTER_CONFIG
from llgbm.generators.sideways.collection.from_folders import PEFT
from llgbm.generators.sideways.model.files import SidewaysModel

PLACE = "{checkpoint}"
CHECKPOINT = "checkpoint.safetensors"


class Meter(Protocol):
    """Writes and measures checkpoints that were decoded."""

    def check(self) -> None:
        """Raise SettingError unless it can measure."""

    def write(self, blocks: Mapping[str, Tensor], folder: Path) -> Path:
        """Write one checkpoint of blocks [*shape] inside a folder; return what to load."""

    def measure(self, blocks: Mapping[str, Tensor]) -> list[dict[str, float]]:
        """Metrics of blocks [n, *shape]."""


class AdaptersMeter:
    """Of a collection of adapter runs.

    Args:
        world: base, task and texts.
        split: of the task's examples: `validation`, as the collection was measured, or `test`.
        meter: of that split, where there is one already.
    """

    def __init__(
        self, world: AdapterWorld, split: str = "validation", meter: AdapterMeter | None = None
    ) -> None:
        self.world = world
        self._split = split
        self._meter = meter

    def check(self) -> None:
        """See `Meter`."""

    def write(self, blocks: Mapping[str, Tensor], folder: Path) -> Path:
        """Write a PEFT folder; see `Meter`."""
        one = {name: value[None].detach() for name, value in blocks.items()}
        save_adapter(
            from_blocks(self.world.spec, one),
            folder,
            base_model_name=self.world.runs.base_model,
            base_fingerprint=self.world.fingerprint,
        )
        return folder

    def measure(self, blocks: Mapping[str, Tensor]) -> list[dict[str, float]]:
        """See `Meter`."""
        self._meter = self._meter or self.world.meter(self._split)
        return self._meter.measure(
            from_blocks(self.world.spec, {name: each.detach() for name, each in blocks.items()})
        )


class FilesMeter:
    """Of anybody's checkpoints: `command` is run on each and prints metrics as a line of JSON.

    Args:
        command: words with `{checkpoint}` where the path of a safetensors file goes; None writes
            checkpoints and measures none.
        metrics: that it must print.
        peft: adapter_config.json of checkpoints that are PEFT adapters: what is written is one, and
            the command is given the folder.
    """

    def __init__(
        self,
        command: str | None,
        metrics: Sequence[str],
        peft: Mapping[str, object] | None = None,
    ) -> None:
        if command is not None and PLACE not in command:
            raise SettingError(f"evaluator: expected {PLACE} in the command, got {command!r}")
        self.command, self.metrics, self.peft = command, tuple(metrics), peft
        try:
            self.words = shlex.split(command or "")
        except ValueError as error:
            raise SettingError(f"evaluator: expected words, got {command!r} ({error})") from error

    def check(self) -> None:
        """See `Meter`."""
        if self.command is None:
            raise SettingError(
                "evaluate: expected --evaluator, a command that measures a checkpoint of yours, "
                "got none"
            )

    def write(self, blocks: Mapping[str, Tensor], folder: Path) -> Path:
        """See `Meter`."""
        if self.peft is None:
            path = folder / CHECKPOINT
            save_tensors(path, blocks)
            return path
        save_tensors(folder / ADAPTER, blocks)
        write_json(folder / ADAPTER_CONFIG, self.peft)
        return folder

    def measure(self, blocks: Mapping[str, Tensor]) -> list[dict[str, float]]:
        """See `Meter`."""
        self.check()
        count = len(next(iter(blocks.values())))
        found = []
        with TemporaryDirectory() as folder:
            for index in tqdm(range(count), desc="evaluate", unit="checkpoint", leave=False):
                path = self.write({n: each[index] for n, each in blocks.items()}, Path(folder))
                found.append(self._run(path))
        return found

    def _run(self, path: Path) -> dict[str, float]:
        words = [word.replace(PLACE, str(path)) for word in self.words]
        try:
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        except OSError as error:
            raise RunError(f"evaluator: {words[0]}: {error.strerror or error}") from error
        last = (done.stdout.strip().splitlines() or [""])[-1]
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise RunError(f"evaluator: exit status {done.returncode}: {said}")
        try:
            values = json.loads(last)
            found = {name: float(values[name]) for name in self.metrics}
        except (ValueError, TypeError, KeyError) as error:
            wanted = f"a last line of JSON with {list(self.metrics)}"
            raise RunError(mismatch("evaluator", "output", wanted, repr(last[:80]))) from error
        for name, value in found.items():
            if not abs(value) < float("inf"):
                raise RunError(mismatch("evaluator", name, "a finite number", value))
        return found


def meter_of(model: SidewaysModel, command: str | None, split: str = "validation") -> Meter:
    """What measures checkpoints of a model's collection."""
    source = model.collection.source
    if command is None and source.get("kind") == KIND:
        world = AdapterWorld.of_source(source, model.collection.folder)
        return AdaptersMeter(world, split)
    return FilesMeter(command, model.metrics, source.get(PEFT))
