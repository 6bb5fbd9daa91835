"""The task that an adapter's id names."""

from __future__ import annotations

import re
from collections.abc import Sequence

# TASK_007 or TASK-7: a number of its own behind the task.
_NUMBERED = re.compile(r"(?P<task>.+?)[_-]+\d+")


def task_of(adapter_id: str) -> str | None:
    """Return the task in an id, or None where it names none.

    `arc_easy_007` and `arc_easy-7` are of arc_easy; `boolq__a1`, the id of folder boolq/a1 among
    others named a1, is of boolq.
    """
    folder, separator, _ = adapter_id.partition("__")
    if separator and folder:
        return folder
    match = _NUMBERED.fullmatch(adapter_id)
    return match["task"] if match else None


def tasks_of(ids: Sequence[str]) -> list[str] | None:
    """Return the tasks of all ids, or None where one of them names none."""
    tasks = [task_of(adapter_id) for adapter_id in ids]
    named = [task for task in tasks if task is not None]
    return named if len(named) == len(tasks) else None
