"""A user's own task: a JSON or JSONL file of examples."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llgbm.deltas.errors import TaskError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.task import FEWEST_EXAMPLES, SPLITS, Example, Task, split_examples

QUERY_KEYS = ("query", "prompt", "question")


def load_task_file(path: Path, seed: int) -> Task:
    """Read a task file.

    JSONL holds one example a line. JSON holds a list of examples, or an object with `examples`
    (or `train`, `validation` and `test`), and optionally `name`, `family`, `descriptions`.
    An example has a `query` (or `prompt`, `question`), and `choices` with `gold` (an index), or
    `choices` with `answer` (one of them), or `answer` alone.

    Raises:
        TaskError: names the file, the line or index, and the key.
    """
    if not path.is_file():
        raise TaskError(f"{path}: not found")
    if path.stat().st_size == 0:
        raise TaskError(mismatch(path, "content", "examples", "an empty file"))
    if path.suffix == ".jsonl":
        content: Mapping[str, Any] = {"examples": _read_lines(path)}
    else:
        content = _read_object(path)
    name = str(content.get("name") or re.sub(r"\W+", "_", path.stem))
    descriptions = content.get("descriptions", content.get("description", ()))
    if isinstance(descriptions, str):
        descriptions = (descriptions,)
    if not all(isinstance(text, str) and text.strip() for text in descriptions):
        raise TaskError(mismatch(path, "descriptions", "texts", descriptions))
    if "examples" in content:
        parts = split_examples(_examples(path, content["examples"], "example"), f"{seed}:{name}")
        total = sum(map(len, parts))
    else:
        missing = [split for split in SPLITS if split not in content]
        if missing:
            raise TaskError(mismatch(path, "key", "`examples`, or all of " + str(SPLITS), missing))
        parts = tuple(tuple(_examples(path, content[s], s)) for s in SPLITS)  # type: ignore
        total = sum(map(len, parts))
        _check_disjoint(path, parts)
    if total < FEWEST_EXAMPLES or not all(parts):
        raise TaskError(mismatch(path, "examples", f"at least {FEWEST_EXAMPLES}", total))
    return Task(name, str(content.get("family") or name), tuple(descriptions), *parts)


def _read_lines(path: Path) -> list[Any]:
    rows = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TaskError(mismatch(path, "text", "UTF-8", f"byte {error.start}")) from error
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise TaskError(mismatch(path, f"line {number}", "JSON", error.msg)) from error
    return rows


def _read_object(path: Path) -> Mapping[str, Any]:
    if path.read_bytes().lstrip()[:1] == b"[":
        try:
            return {"examples": json.loads(path.read_text(encoding="utf-8"))}
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise TaskError(mismatch(path, "content", "JSON", error)) from error
    return read_json(path, TaskError)


def _examples(path: Path, rows: Any, where: str) -> list[Example]:
    if not isinstance(rows, list):
        raise TaskError(mismatch(path, where, "a list", type(rows).__name__))
    return [make_example(row, f"{path}: {where} {index}") for index, row in enumerate(rows)]


def make_example(row: Any, where: str) -> Example:
    """Read one example; `where` opens every error.

    Raises:
        TaskError: missing keys, wrong types, empty texts or an index out of range.
    """
    if not isinstance(row, Mapping):
        raise TaskError(f"{where}: expected an object, got {type(row).__name__}")
    key = next((key for key in QUERY_KEYS if key in row), None)
    if key is None:
        raise TaskError(f"{where}: expected one of {QUERY_KEYS}, got keys {sorted(row)}")
    query = _text(row[key], where, key)
    choices = row.get("choices")
    if choices is None:
        return Example(query, (_continuation(query, _text(row.get("answer"), where, "answer")),), 0)
    if not isinstance(choices, Sequence) or isinstance(choices, str) or not choices:
        raise TaskError(f"{where}: choices: expected a list of texts, got {choices!r}")
    texts = [_text(choice, where, "choices") for choice in choices]
    gold = row.get("gold")
    if gold is None:
        answer = _text(row.get("answer"), where, "answer")
        if answer not in texts:
            raise TaskError(f"{where}: answer: expected one of {texts}, got {answer!r}")
        gold = texts.index(answer)
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(texts):
        raise TaskError(f"{where}: gold: expected an index below {len(texts)}, got {gold!r}")
    return Example(query, tuple(_continuation(query, text) for text in texts), gold)


def _text(value: Any, where: str, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        got = "nothing" if value is None else repr(value)
        raise TaskError(f"{where}: {key}: expected a text that is not empty, got {got}")
    return value


def _continuation(query: str, text: str) -> str:
    """A choice as it continues the query: with a space unless one is there."""
    return text if query[-1:].isspace() or text[:1].isspace() else f" {text}"


def _check_disjoint(path: Path, parts: Sequence[Sequence[Example]]) -> None:
    seen: dict[str, str] = {}
    for split, examples in zip(SPLITS, parts, strict=True):
        for index, example in enumerate(examples):
            other = seen.setdefault(" ".join(example.query.lower().split()), split)
            if other != split:
                raise TaskError(f"{path}: {split} {index}: query: expected one not in {other}")
