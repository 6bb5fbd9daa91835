"""What an experiment has measured so far, and for how long: an interrupted one goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cattrs

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import RunError
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.json_files import read_json
from llgbm.generators.sideways.experiment.results import Metrics, SeedResults

_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class SeedNote:
    """All of one seed.

    Attributes:
        key: of everything that the results depend on.
        results: of the seed.
        reference: metrics that its hypervolumes are counted from.
    """

    key: str
    results: SeedResults
    reference: Metrics


@dataclass(frozen=True)
class Notes:
    """Files beside an experiment's models.

    Args:
        folder: of the experiment.
    """

    folder: Path

    @staticmethod
    def key(depends_on: Mapping[str, Any]) -> str:
        """Fingerprint of what results depend on, and of this package's version."""
        return text_fingerprint({**depends_on, "version": version("llgbm-generators")})

    def read(self, seed: int, key: str) -> SeedNote | None:
        """The note of a seed; None where there is none, or one of something else."""
        path = self._path(seed)
        if not path.exists():
            return None
        try:
            note = _CONVERTER.structure(read_json(path, RunError), SeedNote)
        except (KeyError, TypeError, cattrs.BaseValidationError) as error:
            raise RunError(f"{path}: expected results of a seed, got {error}: remove it") from error
        return note if note.key == key else None

    def write(self, seed: int, note: SeedNote) -> None:
        """Write the note of a seed, atomically."""
        write_json(self._path(seed), asdict(note))

    @property
    def seconds(self) -> dict[str, float]:
        """Wall clock of every part, all calls together."""
        path = self._seconds
        return dict(read_json(path, RunError)) if path.exists() else {}

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add what passes inside to a part's seconds, also where it is interrupted."""
        began = time.perf_counter()
        try:
            yield
        finally:
            known = self.seconds
            passed = known.get(part, 0.0) + time.perf_counter() - began
            write_json(self._seconds, {**known, part: round(passed, 1)})

    @property
    def _seconds(self) -> Path:
        return self.folder / "seconds.json"

    def _path(self, seed: int) -> Path:
        return self.folder / f"seed-{seed}.json"
