"""Which weights of a checkpoint matter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from torch import Tensor

from llgbm.deltas.errors import SettingError


def chosen_keys(
    tensors: Mapping[str, Tensor], keep: Sequence[str], leave: Sequence[str], where: Path
) -> list[str]:
    """Keys that match a pattern of `keep`, all where empty, and none of `leave`.

    Args:
        tensors: of a checkpoint.
        keep: patterns as of file names: `*.weight`, `layers.1[0-9].*`.
        leave: likewise.
        where: the checkpoint, for the error.

    Raises:
        SettingError: nothing is left, or a pattern of `keep` matches nothing.
    """
    for pattern in keep:
        if not any(fnmatchcase(key, pattern) for key in tensors):
            raise SettingError(
                f"keep: {pattern!r} matches none of {len(tensors)} keys of {where}, such as "
                f"{sorted(tensors)[:3]}"
            )
    found = [
        key
        for key in sorted(tensors)
        if (not keep or any(fnmatchcase(key, pattern) for pattern in keep))
        and not any(fnmatchcase(key, pattern) for pattern in leave)
    ]
    if not found:
        raise SettingError(f"leave: expected some keys of {where} to stay, got none")
    return found
