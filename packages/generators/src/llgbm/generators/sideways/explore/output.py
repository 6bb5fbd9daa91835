"""Folders that commands write decoded checkpoints to."""

from __future__ import annotations

from pathlib import Path

from llgbm.deltas.errors import RunError

# Stands in every such folder, and says what is in it.
INDEX = "sideways.json"


def check_output(out: Path, overwrite: bool) -> None:
    """Refuse to replace anything but such a folder.

    Raises:
        RunError: `out` exists, and is not to be replaced or is something else.
    """
    if not out.exists():
        return
    if not overwrite:
        raise RunError(f"{out}: expected a new folder, got one that exists: add --overwrite")
    if not (out / INDEX).is_file():
        raise RunError(f"{out}: expected decoded checkpoints to overwrite, got something else")
