"""Answers of several rows to the same questions, and what they say of a collapse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llgbm.latentwire.collapse import CollapseDetector, Verdict
from llgbm.latentwire.evaluation.answers import Answer
from llgbm.latentwire.evaluation.results import Evaluation

LATENT = "latent"
# Rows whose answers stand side by side, those that were measured.
SHOWN = ("text", "no_context", "budget_question_kept", "shuffled", LATENT)
QUESTIONS = 8


@dataclass(frozen=True)
class Asked:
    """One question with the answers of several rows.

    Attributes:
        question: what was read after the context.
        gold: answers that count as right.
        answers: one a row.
    """

    question: str
    gold: tuple[str, ...]
    answers: tuple[Answer, ...]


def shown_rows(evaluation: Evaluation) -> list[str]:
    """Rows whose answers are shown; the first ones where none of the usual was measured."""
    usual = [row for row in SHOWN if row in evaluation.rows]
    return usual or list(evaluation.rows)[: len(SHOWN)]


def side_by_side(evaluation: Evaluation, rows: Sequence[str], most: int = QUESTIONS) -> list[Asked]:
    """Questions evenly over the evaluation, so that none is picked by its answer.

    Args:
        evaluation: with answers of every row in the same order.
        rows: whose answers are wanted.
        most: questions.
    """
    tables = [answers_of(evaluation, row) for row in rows]
    count = len(tables[0])
    shown = min(most, count)
    return [
        Asked(tables[0][place].question, tables[0][place].gold, tuple(t[place] for t in tables))
        for place in (number * count // shown for number in range(shown))
    ]


def answers_of(evaluation: Evaluation, row: str) -> list[Answer]:
    """Answers of one row in the order of the examples."""
    return [answer for answer in evaluation.answers if answer.row == row]


def verdict_of(evaluation: Evaluation, row: str = LATENT) -> Verdict | None:
    """What the collapse detector says of a row; None where it has too few answers to tell."""
    answers, detector = answers_of(evaluation, row), CollapseDetector()
    if len(answers) < detector.config.least_answers:
        return None
    return detector.examine([each.answer for each in answers], [each.gold[0] for each in answers])
