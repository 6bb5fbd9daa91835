"""A user's own task: a JSON or JSONL file of examples."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llgbm.deltas.errors import TaskError, mismatch
from llgbm.deltas.task import FEWEST_EXAMPLES, SPLITS, Example, Task, split_examples

QUERY_KEYS = ("query", "prompt", "question")


def load_task_file(path: Path, seed: int) -> Task:
    """Read a task file.

    JSONL holds one example a line. JSON holds a list of examples, or an object with `examples`
    (or `train`, `validation` and `test`), and optionally `name`, `family`, `descriptions`.
    An example has a `query` (or `prompt`, `question`), and `choices` with `gold` (an index), or
    `choices` with `answer` (one of them), or `answer` alone. The name, the file's own where none
    is given, becomes a folder: what is no letter, digit or underscore becomes an underscore.

    Raises:
        TaskError: names the file, the line or index, and the key.
    """
    if not path.is_file():
        raise TaskError(f"{path}: not found")
    text = _read_text(path)
    if path.suffix == ".jsonl":
        places, rows = _parse_lines(path, text)
        content: Mapping[str, Any] = {"examples": rows}
    else:
        places, content = None, _parse_object(path, text)
    name = re.sub(r"\W+", "_", _label(path, content, "name") or path.stem)
    family = _label(path, content, "family") or name
    descriptions = _descriptions(path, content)
    given = [split for split in SPLITS if split in content]
    if "examples" in content:
        if given:
            raise TaskError(mismatch(path, "keys", "`examples` or splits", ["examples", *given]))
        examples = _examples(path, content["examples"], "example", places)
        parts = split_examples(examples, f"{seed}:{name}")
    elif len(given) == len(SPLITS):
        train, validation, test = (tuple(_examples(path, content[s], s)) for s in SPLITS)
        parts = (train, validation, test)
        _check_disjoint(path, parts)
    else:
        missing = [split for split in SPLITS if split not in given]
        raise TaskError(mismatch(path, "key", f"`examples`, or all of {SPLITS}", f"no {missing}"))
    total = sum(map(len, parts))
    if total < FEWEST_EXAMPLES:
        raise TaskError(mismatch(path, "examples", f"at least {FEWEST_EXAMPLES}", total))
    for split, part in zip(SPLITS, parts, strict=True):
        if not part:
            # Equal queries stay in one split, so few different ones leave another empty.
            raise TaskError(mismatch(path, split, "at least one query of its own", "none"))
    return Task(name, family, descriptions, *parts)


def _read_text(path: Path) -> str:
    try:
        # Some editors open a UTF-8 file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TaskError(mismatch(path, "text", "UTF-8", f"{error.reason} in it")) from error
    if not text.strip():
        raise TaskError(mismatch(path, "content", "examples", "an empty file"))
    return text


def _parse_lines(path: Path, text: str) -> tuple[list[str], list[Any]]:
    """Return "line N" and the content of every line that is not blank."""
    places, rows = [], []
    # Not splitlines(): a JSON text may hold other line separators, such as U+2028.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise TaskError(mismatch(path, f"line {number}", "JSON", error.msg)) from error
        except RecursionError as error:
            raise TaskError(mismatch(path, f"line {number}", "JSON", "deep nesting")) from error
        places.append(f"line {number}")
    return places, rows


def _parse_object(path: Path, text: str) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise TaskError(mismatch(path, where, "JSON", error.msg)) from error
    except RecursionError as error:
        raise TaskError(mismatch(path, "content", "JSON", "deep nesting")) from error
    if isinstance(content, list):
        return {"examples": content}
    if not isinstance(content, dict):
        raise TaskError(mismatch(path, "content", "a list or an object", type(content).__name__))
    return content


def _label(path: Path, content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    return None if value is None else _text(value, str(path), key)


def _descriptions(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    value = content.get("descriptions", content.get("description"))
    if value is None:
        return ()
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list):
        raise TaskError(mismatch(path, "descriptions", "a list of texts", type(texts).__name__))
    return tuple(_text(text, str(path), "descriptions") for text in texts)


def _examples(
    path: Path, rows: Any, where: str, places: Sequence[str] | None = None
) -> list[Example]:
    if not isinstance(rows, list):
        raise TaskError(mismatch(path, where, "a list", type(rows).__name__))
    places = places or [f"{where} {index}" for index in range(len(rows))]
    return [make_example(row, f"{path}: {place}") for place, row in zip(places, rows, strict=True)]


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
        if "gold" in row:
            raise TaskError(f"{where}: choices: expected a list of texts beside gold, got nothing")
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
