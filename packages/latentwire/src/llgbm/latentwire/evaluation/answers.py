"""What a reader answered, example by example: kept for pairing and for reading by eye."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import cattrs
from cattrs.v import format_exception

from llgbm.deltas.atomic import write_text
from llgbm.deltas.errors import RunError, mismatch

_CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class Answer:
    """One example in one row.

    Attributes:
        row: of the table.
        title: of the document.
        question: what was read after the context.
        answer: as written; may be empty, and then counts as wrong.
        gold: answers that count as right.
        em: exact match, 0 or 1.
        f1: word F1, 0 to 1.
        nll: nats of the first gold answer's tokens, summed.
        tokens: of that answer.
        first_at_1: 1 where its first token is the reader's first guess, else 0.
        first_at_5: 1 where it is among the first five, else 0.
    """

    row: str
    title: str
    question: str
    answer: str
    gold: tuple[str, ...]
    em: float
    f1: float
    nll: float
    tokens: int
    first_at_1: float
    first_at_5: float


def wrong_values(error: cattrs.BaseValidationError) -> str:
    """Which values of a file do not fit, by their place in it; checks' own words are kept."""

    def words(cause: BaseException, kind: type | None) -> str:
        return str(cause) if type(cause) is ValueError else format_exception(cause, kind)

    return "; ".join(cattrs.transform_error(error, format_exception=words))


def write_answers(path: Path, answers: Sequence[Answer]) -> None:
    """Write one JSON object a line, atomically."""
    lines = [
        json.dumps(asdict(each), ensure_ascii=False, allow_nan=False) + "\n" for each in answers
    ]
    write_text(path, "".join(lines))


def read_answers(path: Path) -> tuple[Answer, ...]:
    """Read what `write_answers` wrote.

    Raises:
        RunError: missing or malformed; names the line.
    """
    if not path.exists():
        raise RunError(f"{path}: not found: it belongs beside the results")
    answers = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        got = f"byte {error.start} that is not"
        raise RunError(mismatch(path, "text", "UTF-8", got)) from error
    # Not splitlines(): an answer may hold a separator that is no new line to JSON.
    for number, line in enumerate(text.split("\n")[:-1], 1):
        try:
            record = json.loads(line)
        except (RecursionError, ValueError) as error:
            raise RunError(mismatch(path, f"line {number}", "JSON", error)) from error
        if not isinstance(record, dict):
            raise RunError(mismatch(path, f"line {number}", "an answer", repr(line[:60])))
        try:
            answers.append(_CONVERTER.structure(record, Answer))
        except cattrs.BaseValidationError as error:
            said = wrong_values(error)
            raise RunError(mismatch(path, f"line {number}", "an answer", said)) from error
    return tuple(answers)
