"""A numbered series of adapter folders, of which none is left of an earlier one."""

from __future__ import annotations

import shutil
from pathlib import Path

from llgbm.deltas.peft_format import check_output


def series(out: Path, stem: str, count: int, overwrite: bool) -> list[Path]:
    """Return the folders OUT/STEM_000 and on, after checking that they may be written.

    Raises:
        AdapterError: folders of an earlier series that must not be replaced, or are no adapters.
    """
    folders = [out / f"{stem}_{place:03d}" for place in range(count)]
    for folder in sorted({*folders, *_numbered(out, stem)}):
        check_output(folder, overwrite)
    return folders


def drop_rest(out: Path, stem: str, folders: list[Path]) -> None:
    """Remove what a longer, earlier series left behind the last of `folders`."""
    for folder in _numbered(out, stem):
        if folder not in folders:
            shutil.rmtree(folder)


def _numbered(out: Path, stem: str) -> list[Path]:
    return [path for path in out.glob(f"{stem}_*") if path.name[len(stem) + 1 :].isdecimal()]
