"""metrics.jsonl: one line a step or validation; a resumed run drops what it will redo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llgbm.deltas.atomic import write_text
from llgbm.deltas.errors import RunError, mismatch


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read every line; a last line cut short by a crash is dropped.

    Raises:
        RunError: a malformed line elsewhere, one that is no record of a step, or no text file.
    """
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RunError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        got = f"byte {error.start} that is not"
        raise RunError(mismatch(path, "text", "UTF-8", got)) from error
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except (ValueError, RecursionError) as error:  # no JSON, a number too long, too deep
            if number == len(lines):
                break
            raise RunError(f"{path}: line {number}: expected JSON, got {line[:60]!r}") from error
        if not isinstance(records[-1], dict) or not isinstance(records[-1].get("step"), int):
            expected = "an object with a whole number `step`"
            raise RunError(mismatch(path, f"line {number}", expected, repr(line[:60])))
    return records


class MetricsLog:
    """Appends records and flushes each, so that a killed run keeps its history.

    Args:
        path: file.
        steps_done: records of later steps are dropped first.
    """

    def __init__(self, path: Path, steps_done: int) -> None:
        kept = [record for record in read_metrics(path) if record["step"] <= steps_done]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(json.dumps(record) + "\n" for record in kept))
        self.path = path

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; it must hold `step`."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
