"""Rows of an Arrow IPC stream file, the format that hub data sets are kept in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llgbm.deltas.errors import MissingPackageError, TaskError, mismatch

FORMAT = "a whole Arrow IPC stream"
# A stream that was cut between two batches is told only by the missing mark of its end.
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def read_arrow(path: Path) -> list[dict[str, Any]]:
    """Read all rows of a file, each by column name.

    Raises:
        MissingPackageError: `pyarrow` is not installed; says the pip line.
        TaskError: a truncated or damaged file.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingPackageError(
            f"{path}: needs the package pyarrow (extra `arrow` of llgbm-deltas): "
            "pip install pyarrow"
        ) from error
    try:
        content = path.read_bytes()
        if not content.endswith(_END):
            raise TaskError(mismatch(path, "content", FORMAT, "no end of stream"))
        with pyarrow.ipc.open_stream(content) as stream:
            table = stream.read_all()
        # Offsets that point outside a buffer would be followed unchecked.
        table.validate(full=True)
        rows: list[dict[str, Any]] = table.to_pylist()
    except TaskError:
        raise
    # Damaged lengths can ask for more memory than there is.
    except (pyarrow.ArrowException, OSError, ValueError, MemoryError) as error:
        got = " ".join(str(error).split()) or type(error).__name__
        raise TaskError(mismatch(path, "content", FORMAT, got)) from error
    return rows
