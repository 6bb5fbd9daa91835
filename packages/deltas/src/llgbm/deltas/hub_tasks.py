"""A task from a data set on the hub, for users with a network."""

from __future__ import annotations

from llgbm.deltas.errors import MissingPackageError, TaskError
from llgbm.deltas.task import FEWEST_EXAMPLES, Task, split_examples
from llgbm.deltas.task_files import make_example

# The first split of a data set that exists is read and split again.
_PREFERRED = ("train", "validation", "test")


def load_hub_task(name: str, seed: int) -> Task:
    """Load OWNER/NAME through the `datasets` package; columns as in a task file.

    Raises:
        MissingPackageError: `datasets` is not installed.
        TaskError: it cannot be loaded, or its columns do not fit.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingPackageError(
            f"hub:{name}: needs the package datasets: pip install datasets"
        ) from error
    try:
        loaded = datasets.load_dataset(name)
    except Exception as error:  # every kind of network, login and script error
        raise TaskError(
            f"hub:{name}: expected a data set that can be loaded, got: {error}"
        ) from error
    split = next((split for split in _PREFERRED if split in loaded), None)
    if split is None:
        raise TaskError(f"hub:{name}: expected one of the splits {_PREFERRED}, got {list(loaded)}")
    rows = [
        make_example(dict(row), f"hub:{name}: {split} {i}") for i, row in enumerate(loaded[split])
    ]
    if len(rows) < FEWEST_EXAMPLES:
        raise TaskError(
            f"hub:{name}: expected at least {FEWEST_EXAMPLES} examples, got {len(rows)}"
        )
    short = name.replace("/", "__")
    return Task(short, short, (), *split_examples(rows, f"{seed}:{short}"))
