"""Packaged tasks kept as the requests of an evaluation: gzipped JSON lines."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llgbm.deltas.packaged import evaluation_requests
from llgbm.deltas.packaged_source import Read, continue_with
from llgbm.deltas.task import Example


def _question(doc: Mapping[str, Any]) -> Example:
    """A doc whose query is written out as its evaluation asks it."""
    # Some choices bring the space before them.
    choices = (choice.lstrip(" ") for choice in doc["choices"])
    return continue_with(doc["query"], choices, int(doc["gold"]))


def _framed(doc: Mapping[str, Any]) -> Example:
    """A doc whose query is a bare question: asked between labels, without its passage."""
    return continue_with(f"Question: {doc['query']}\nAnswer:", doc["choices"], int(doc["gold"]))


def _passage(doc: Mapping[str, Any]) -> Example:
    """A doc whose bare question is about a passage: asked between labels after it."""
    query = doc["source"] + f"\nQuestion: {doc['query']}\nAnswer:"
    return continue_with(query, doc["choices"], int(doc["gold"]))


def _beginning(doc: Mapping[str, Any]) -> Example:
    """A doc whose question is the beginning of a text; white space in a choice counts."""
    return continue_with(doc["question"], doc["choices"], int(doc["gold"]))


def _winogrande(doc: Mapping[str, Any]) -> Example:
    """A sentence with a gap: what follows it comes after either option."""
    before, after = doc["sentence"].split("_", 1)
    choices = (doc[key] + after for key in ("option1", "option2"))
    return continue_with(before.rstrip(), choices, int(doc["answer"]) - 1)


@dataclass(frozen=True)
class RequestTask:
    """A task of `oe_eval_tasks`.

    Args:
        family: of the task.
        variant: folder of the requests inside the task's own.
        read: turns a doc into an example.
    """

    family: str
    variant: str = "rc_0shot"
    read: Read = _question
    format: str = "gzipped JSON requests"

    def paths(self, name: str) -> Sequence[Path]:
        """The file of requests."""
        return (evaluation_requests(name, self.variant),)

    def docs(self, path: Path) -> Iterator[Mapping[str, Any]]:
        """Docs of the requests: each stands in one line a choice and normalisation."""
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["doc"]


# Each basic skill asks for something else, so it is a family of its own.
REQUEST_TASKS: dict[str, RequestTask] = {
    "arc_easy": RequestTask("arc"),
    "arc_challenge": RequestTask("arc"),
    "basic_skills_arithmetic": RequestTask("arithmetic", "rc_5shot", _beginning),
    "basic_skills_coding": RequestTask("coding", "rc_5shot", _beginning),
    "basic_skills_common_knowledge": RequestTask("common_knowledge", "rc_5shot", _beginning),
    "basic_skills_logical_reasoning": RequestTask("logical_reasoning", "rc_5shot", _beginning),
    "basic_skills_pattern": RequestTask("pattern", "rc_5shot", _beginning),
    "basic_skills_string_operations": RequestTask("string_operations", "rc_5shot", _beginning),
    "boolq": RequestTask("boolq"),
    "copycolors": RequestTask("copycolors", "10way"),
    "csqa": RequestTask("csqa"),
    "hellaswag": RequestTask("hellaswag"),
    "medmcqa": RequestTask("medical", "rc_5shot"),
    "medqa_en": RequestTask("medical", "rc_5shot"),
    "openbookqa": RequestTask("openbookqa"),
    "piqa": RequestTask("piqa"),
    # Both ask yes or no about a scientific paper, in the same words.
    "qasper_yesno": RequestTask("scientific_papers", "rc_5shot", _passage),
    "sciq": RequestTask("sciq", read=_framed),
    "sciriff_yesno": RequestTask("scientific_papers", "rc_5shot", _passage),
    "socialiqa": RequestTask("socialiqa"),
    "winogrande": RequestTask("winogrande", "rc_0shot", _winogrande),
}
