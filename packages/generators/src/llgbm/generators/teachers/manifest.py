"""The central adapter index, checkpoints/manifest.json: one writer, one reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import AdapterError, RunError, mismatch
from llgbm.deltas.fingerprint import adapter_fingerprint
from llgbm.deltas.json_files import read_json
from llgbm.deltas.peft_format import load_adapter
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.run_base import run_base
from llgbm.generators.spec_words import told_apart
from llgbm.generators.teachers.manifest_checks import check_manifest
from llgbm.generators.teachers.shards import Split

FORMAT = 2


@dataclass(frozen=True)
class TeacherEntry:
    """One teacher in the index; `path` is relative to the checkpoints folder."""

    id: str
    task: str
    family: str
    split: Split
    path: str
    fingerprint: str
    train_examples: int
    steps: int
    final_loss: float
    losses: tuple[float, ...]

    @property
    def held_out(self) -> bool:
        """Whether the generator must not see the family."""
        return self.split != "train"


@dataclass(frozen=True)
class Manifest:
    """Index of all teachers of a run.

    Attributes:
        base_model: name given to `load_base_model`.
        base_fingerprint: sha256 of its weights.
        settings: what the teachers were trained with; a run goes on only with the same.
        adapters: entries in order of training.
    """

    base_model: str
    base_fingerprint: str
    settings: Mapping[str, Any]
    adapters: tuple[TeacherEntry, ...] = field(default=())

    def write(self, path: Path) -> None:
        """Write the index atomically."""
        write_json(path, {"format": FORMAT, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read an index.

        Raises:
            RunError: missing, malformed or of another format.
        """
        if not path.exists():
            raise RunError(f"{path}: not found: run `llgbm teach` first")
        content = read_json(path, RunError)
        if content.get("format") != FORMAT:
            raise RunError(mismatch(path, "format", FORMAT, content.get("format")))
        check_manifest(path, content)
        entries = tuple(
            TeacherEntry(**{**entry, "losses": tuple(entry["losses"])})
            for entry in content["adapters"]
        )
        return cls(content["base_model"], content["base_fingerprint"], content["settings"], entries)

    def of_split(self, split: Split) -> list[TeacherEntry]:
        """Entries of the families of a split."""
        return [entry for entry in self.adapters if entry.split == split]

    @property
    def tasks(self) -> list[str]:
        """Task names in order of first appearance."""
        return list(dict.fromkeys(entry.task for entry in self.adapters))

    def base(
        self,
        path: Path,
        model: nn.Module | None = None,
        tokenizer: Any = None,
        device: torch.device | str | None = None,
    ) -> tuple[Any, Any]:
        """Return the base model that the teachers were taught on, and its tokenizer.

        Args:
            path: of the index, for the error.
            model, tokenizer, device: see `run_base`.

        Raises:
            RunError: other weights have its name now.
        """
        given = (path, self.base_model, self.base_fingerprint)
        return run_base(*given, model, tokenizer, device)

    def check_updates(
        self, path: Path, entries: Sequence[TeacherEntry], weights: LoRAWeights
    ) -> None:
        """Raise RunError naming the teachers that change nothing: there is no direction in them.

        Args:
            path: of the index, for the error.
            entries: n teachers.
            weights: of these.
        """
        moved = (weights.delta_norms() > 0).any(1).tolist()
        still = [entry.id for entry, moves in zip(entries, moved, strict=True) if not moves]
        if still:
            raise RunError(
                mismatch(path, "adapters", "updates other than zero", f"zero of {still}")
            )

    def load(self, checkpoints: Path, entries: list[TeacherEntry]) -> LoRAWeights:
        """Load adapters into one batch, in the order of `entries`.

        Raises:
            AdapterError: a file is missing, damaged, or unlike the others.
            RunError: an adapter differs from the one indexed.
        """
        loaded: list[LoRAWeights] = []
        for entry in entries:
            weights = load_adapter(checkpoints / entry.path)
            found = adapter_fingerprint(weights)
            if found != entry.fingerprint:
                raise RunError(
                    mismatch(checkpoints / entry.path, "fingerprint", entry.fingerprint, found)
                )
            if loaded and weights.spec != loaded[0].spec:
                first, other = told_apart(loaded[0].spec, weights.spec)
                expected = f"that of {entries[0].path} ({first})"
                raise AdapterError(mismatch(checkpoints / entry.path, "spec", expected, other))
            loaded.append(weights)
        return LoRAWeights.concatenate(loaded)
