"""What commands found, kept beside the model for its report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import RunError
from llgbm.deltas.json_files import read_json

FOLDER = "results"


def note_result(model: Path, name: str, content: Mapping[str, Any]) -> None:
    """Write MODEL/results/NAME.json."""
    write_json(model / FOLDER / f"{name}.json", dict(content))


def noted_results(model: Path) -> dict[str, dict[str, Any]]:
    """All that was noted, by name.

    Raises:
        RunError: a file that is damaged.
    """
    return {
        path.stem: read_json(path, RunError) for path in sorted((model / FOLDER).glob("*.json"))
    }
