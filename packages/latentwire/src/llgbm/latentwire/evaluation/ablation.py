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
DIFFERENCES = ("minus_text", "minus_budget_question_kept", "minus_shuffled")
SCHEMA, KIND = 1, "latentwire ablation"
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class Ablation:
    """What an ablation found.

    Attributes:
        name: of the table; `ablate` for a user's own sweep.
        question: that it answers, in words.
        sweep: words that were swept, where a user did.
        seeds: of every combination.
        scale: in words.
        environment: commit, versions, device, seed.
        runs: combination -> quantity -> interval; `f1` of the latents is among them.
        seconds: of all optimiser steps and answers behind it; None where nobody noted them.
    """

    name: str
    question: str
    sweep: tuple[str, ...]
    seeds: tuple[int, ...]
    scale: str
    environment: Mapping[str, Any]
    runs: Mapping[str, Mapping[str, Interval]]
    seconds: float | None = None

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


def ablation_table(summary: Mapping[str, Mapping[str, Interval]]) -> str:
    """Runs as aligned text."""
    width = max(map(len, summary))
    shown = [key for key in DIFFERENCES if any(key in numbers for numbers in summary.values())]
    heads = "".join(f"  {key.replace('minus_', '- '):>24}" for key in shown)
    lines = [f"{'':<{width}}  {'F1':>6}  {'EM':>6}  {'NLL':>6}{heads}"]
    for name, numbers in summary.items():
        means = "".join(f"  {numbers[key].mean:6.3f}" for key in ("f1", "em", "nll"))
        cells = (in_words(numbers[key]) if key in numbers else "-" for key in shown)
        lines.append(f"{name:<{width}}{means}" + "".join(f"  {cell:>24}" for cell in cells))
    return "\n".join(lines)


def in_words(found: Interval) -> str:
    """A difference with its interval."""
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"
