"""Files of questions: JSON lines, or SQuAD's own form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import pydantic

from llgbm.deltas.errors import TaskError, mismatch
from llgbm.latentwire.data.squad import Question

Kind = TypeVar("Kind", bound=pydantic.BaseModel)
Text = Annotated[str, pydantic.StringConstraints(strip_whitespace=True, min_length=1)]
# Answers are written as one line.
Line = Annotated[Text, pydantic.AfterValidator(lambda text: " ".join(text.split()))]


class _Line(pydantic.BaseModel):
    context: Text
    question: Text
    answers: Annotated[list[Line], pydantic.Field(min_length=1)]
    title: Annotated[str, pydantic.StringConstraints(strip_whitespace=True)] = ""


class _Answer(pydantic.BaseModel):
    text: str


class _Asked(pydantic.BaseModel):
    question: Text
    answers: list[_Answer] = []
    is_impossible: bool = False


class _Paragraph(pydantic.BaseModel):
    context: Text
    qas: list[_Asked]


class _Article(pydantic.BaseModel):
    title: str = ""
    paragraphs: list[_Paragraph]


class _Squad(pydantic.BaseModel):
    data: list[_Article]


def read_questions(path: Path) -> list[Question]:
    """Read questions on contexts with their answers.

    Args:
        path: `.json` in SQuAD's form (`data` > `paragraphs` > `qas`), of which questions that
            cannot be answered are left out; anything else is JSON lines with `context`,
            `question`, `answers` (a list of those that count as right, the first is trained on)
            and, where contexts belong to one document, its `title`. Other keys are ignored.

    Raises:
        TaskError: missing, not UTF-8, malformed, or without questions.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors put a mark at the start
    except UnicodeDecodeError as error:
        got = f"byte {error.start} that is not"
        raise TaskError(mismatch(path, "text", "UTF-8", got)) from error
    except (OSError, ValueError) as error:  # a name that no file can have, too
        reason = getattr(error, "strerror", None) or error
        raise TaskError(f"{str(path)!r}: {reason}") from error
    found = _squad(path, text) if path.suffix.lower() == ".json" else _lines(path, text)
    if not found:
        raise TaskError(f"{path}: expected questions that can be answered, got none")
    return found


def _lines(path: Path, text: str) -> list[Question]:
    questions = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            row = _parsed(_Line, line, f"{path}: line {number}")
            answers = tuple(dict.fromkeys(row.answers))
            questions.append(Question(row.title, row.context, row.question, answers))
    return questions


def _squad(path: Path, text: str) -> list[Question]:
    return [
        Question(
            article.title,
            paragraph.context,
            asked.question,
            answers,
        )
        for article in _parsed(_Squad, text, str(path)).data
        for paragraph in article.paragraphs
        for asked in paragraph.qas
        if (answers := _answers(asked)) and not asked.is_impossible
    ]


def _answers(asked: _Asked) -> tuple[str, ...]:
    """Different answers as one line each; empty ones are none."""
    lines = (" ".join(answer.text.split()) for answer in asked.answers)
    return tuple(dict.fromkeys(line for line in lines if line))


def _parsed(kind: type[Kind], text: str, where: str) -> Kind:
    """Read one value; the first thing that is wrong with it is told."""
    try:
        return kind.model_validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise TaskError(f"{where}: {f'{place}: ' if place else ''}{first['msg']}") from error
