"""ablation.json: F1 of every combination, over examples and seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cattrs

from llgbm.deltas.atomic import write_json
from llgbm.deltas.bootstrap import Interval
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.latentwire.evaluation.answers import wrong_values

ABLATION = "ablation.json"
SCHEMA, KIND = 1, "latentwire ablation"
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class Ablation:
    """What an ablation found.

    Attributes:
        sweep: words that were swept.
        seeds: of every combination.
        scale: in words.
        environment: commit, versions, device, seed.
        runs: combination -> quantity -> interval; `f1` of the latents is among them.
    """

    sweep: tuple[str, ...]
    seeds: tuple[int, ...]
    scale: str
    environment: Mapping[str, Any]
    runs: Mapping[str, Mapping[str, Interval]]

    def write(self, path: Path) -> None:
        """Write the file, atomically."""
        write_json(path, {"schema": SCHEMA, "kind": KIND, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Ablation:
        """Read and check what `llgbm-latentwire ablate` wrote.

        Raises:
            RunError: missing, malformed, of another kind, or a run without F1.
        """
        content = read_json(path, RunError)
        found = (content.pop("schema", None), content.pop("kind", None))
        if found != (SCHEMA, KIND):
            raise RunError(mismatch(path, "schema and kind", (SCHEMA, KIND), found))
        try:
            read = _CONVERTER.structure(content, cls)
        except cattrs.BaseValidationError as error:
            said = wrong_values(error)
            raise RunError(f"{path}: expected an ablation's results, got {said}") from error
        if not read.runs:
            raise RunError(mismatch(path, "runs", "at least one", "none"))
        for name, numbers in read.runs.items():
            if "f1" not in numbers:
                raise RunError(mismatch(path, f"runs.{name}", "f1", sorted(numbers)))
        return read

    @property
    def quantities(self) -> list[str]:
        """Quantities that any run has, in the file's order."""
        return list(dict.fromkeys(key for numbers in self.runs.values() for key in numbers))
