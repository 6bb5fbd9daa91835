"""What an experiment has measured so far, and for how long: an interrupted one goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cattrs
from torch import Tensor

from llgbm.deltas.atomic import save_tensors, write_json
from llgbm.deltas.errors import RunError
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.json_files import read_json
from llgbm.deltas.tensor_state import read_tensors
from llgbm.generators.sideways.adapters.measure import Observed
from llgbm.generators.sideways.experiment.results import Metrics, SeedResults

_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class SeedNote:
    """All of one seed.

    Attributes:
        key: of everything that the results depend on.
        results: of the seed.
        reference: metrics that its hypervolumes are counted from.
        observed: arm -> what its front does on every test example.
    """

    key: str
    results: SeedResults
    reference: Metrics
    observed: Mapping[str, Observed]


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
        path, tensors = self._paths(seed)
        if not path.exists() or not tensors.exists():
            return None
        content = read_json(path, RunError)
        try:
            if content["key"] != key:
                return None
            results = _CONVERTER.structure(content["results"], SeedResults)
            observed = _observed(read_tensors(tensors))
            return SeedNote(
                key,
                results,
                _CONVERTER.structure(content["reference"], dict[str, float]),
                {arm: observed[arm] for arm in results.fronts},
            )
        except (KeyError, TypeError, cattrs.BaseValidationError) as error:
            raise RunError(f"{path}: expected results of a seed, got {error}: remove it") from error

    def write(self, seed: int, note: SeedNote) -> None:
        """Write the note of a seed; the file that `read` looks for comes last."""
        path, tensors = self._paths(seed)
        save_tensors(
            tensors,
            {
                # A copy: arms share what was measured once, and such a file may not.
                f"{arm}/{field.name}": value.clone()
                for arm, observed in note.observed.items()
                for field in fields(observed)
                if (value := getattr(observed, field.name)) is not None
            },
        )
        content = {"key": note.key, "results": asdict(note.results), "reference": note.reference}
        write_json(path, content)

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

    def _paths(self, seed: int) -> tuple[Path, Path]:
        return self.folder / f"seed-{seed}.json", self.folder / f"seed-{seed}.safetensors"


def _observed(tensors: Mapping[str, Tensor]) -> dict[str, Observed]:
    """By arm, from tensors ARM/FIELD."""
    arms: dict[str, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        arm, field = name.rsplit("/", 1)
        arms.setdefault(arm, {})[field] = value
    return {arm: Observed(**each) for arm, each in arms.items()}
