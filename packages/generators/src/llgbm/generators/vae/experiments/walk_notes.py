"""Ways that were measured before, so that an interrupted experiment goes on with the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import cattrs

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import RunError
from llgbm.deltas.json_files import read_json

WALKS = "walks.json"
_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class Walk:
    """One way of one pair of teachers.

    Attributes:
        accuracy: at each share of the way.
        start_cosine: delta cosine at each share with the teacher that the way leaves.
        end_cosine: with the one that it reaches.
        unevenness: longest step over the mean one.
        detour: length over the distance of the ends.
    """

    accuracy: tuple[float, ...]
    start_cosine: tuple[float, ...]
    end_cosine: tuple[float, ...]
    unevenness: float
    detour: float


class WalkNotes:
    """Walks by pair, in the folder of the VAE that they go through.

    Args:
        folder: of the VAE.
        key: of all that the walks depend on beside the pair; those noted under another are
            forgotten.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.path, self.key = folder / WALKS, key
        self._known: dict[str, dict[str, Walk]] = {}
        if not self.path.exists():
            return
        content = read_json(self.path, RunError)
        if content.get("key") != key:
            return
        try:
            self._known = _CONVERTER.structure(content.get("pairs"), dict[str, dict[str, Walk]])
        except cattrs.BaseValidationError as error:
            raise RunError(f"{self.path}: expected walks by pair, got {error}") from error

    def of(self, pair: tuple[int, int]) -> Mapping[str, Walk] | None:
        """What was noted of a pair, by kind of way."""
        return self._known.get(_name(pair))

    def note(self, pair: tuple[int, int], walks: Mapping[str, Walk]) -> None:
        """Write a pair's walks down."""
        self._known[_name(pair)] = dict(walks)
        pairs = {
            name: {kind: asdict(walk) for kind, walk in each.items()}
            for name, each in self._known.items()
        }
        write_json(self.path, {"key": self.key, "pairs": pairs})


def _name(pair: tuple[int, int]) -> str:
    return f"{pair[0]} to {pair[1]}"
