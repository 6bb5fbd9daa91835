"""Accuracies that were measured before: experiments share them and go on where they stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cattrs

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import RunError
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.json_files import read_json
from llgbm.deltas.task import Example

ACCURACIES = "accuracies.json"
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


class AccuracyNotes:
    """Share of right choices by questions and by adapter, in a folder of experiments.

    Adapters are told apart by their bits: what a VAE writes with another number of threads may
    round otherwise, and is measured again.

    Args:
        folder: of the experiments.
        base_fingerprint: of the base under the adapters.

    Raises:
        RunError: a file there that holds something else.
    """

    def __init__(self, folder: Path, base_fingerprint: str) -> None:
        self.path, self.base = folder / ACCURACIES, base_fingerprint
        self._known: dict[str, dict[str, float]] = {}
        if not self.path.exists():
            return
        content = read_json(self.path, RunError)
        try:
            self._known = _CONVERTER.structure(content, dict[str, dict[str, float]])
        except cattrs.BaseValidationError as error:
            raise RunError(f"{self.path}: expected accuracies by adapter, got {error}") from error

    def of(self, questions: Sequence[Example]) -> Mapping[str, float]:
        """What was noted on these questions, by fingerprint of the adapter."""
        return self._known.get(self._name(questions), {})

    def note(self, questions: Sequence[Example], accuracies: Mapping[str, float]) -> None:
        """Write down what was measured on these questions beside what was noted."""
        name = self._name(questions)
        self._known[name] = {**self._known.get(name, {}), **accuracies}
        write_json(self.path, self._known)

    def _name(self, questions: Sequence[Example]) -> str:
        asked = [[each.query, list(each.choices), each.gold] for each in questions]
        return text_fingerprint({"base": self.base, "questions": asked})
