"""Rows that need no training: what is left of a prompt at a budget of tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llgbm.latentwire.squad import Question

Tokens = list[int]
# (context tokens, ending tokens, budget) -> prompt tokens
Baseline = Callable[[Tokens, Tokens, int], Tokens]


def text(context: Tokens, ending: Tokens, budget: int) -> Tokens:
    """The whole prompt; the budget plays no part."""
    return context + ending


def no_context(context: Tokens, ending: Tokens, budget: int) -> Tokens:
    """The question alone."""
    return ending


def budget_head(context: Tokens, ending: Tokens, budget: int) -> Tokens:
    """The first `budget` tokens of the whole prompt; the question is mostly lost."""
    return (context + ending)[:budget]


def budget_tail(context: Tokens, ending: Tokens, budget: int) -> Tokens:
    """The last `budget` tokens of the whole prompt."""
    return (context + ending)[-budget:]


def budget_question_kept(context: Tokens, ending: Tokens, budget: int) -> Tokens:
    """The first `budget` tokens of the passage, and the whole question."""
    return context[:budget] + ending


BASELINES: dict[str, Baseline] = {
    "text": text,
    "no_context": no_context,
    "budget_head": budget_head,
    "budget_tail": budget_tail,
    "budget_question_kept": budget_question_kept,
}


def prompts_of(
    baseline: Baseline, tokenizer: Any, questions: Sequence[Question], ratio: float
) -> list[Tokens]:
    """Token ids of every prompt under a baseline.

    Args:
        baseline: one of BASELINES.
        tokenizer: of the reader.
        questions: what is asked.
        ratio: the budget is the passage's number of tokens over this, at least 1.
    """
    prompts = []
    for question in questions:
        context = tokenizer(question.context)["input_ids"]
        ending = tokenizer(question.ending, add_special_tokens=False)["input_ids"]
        prompts.append(baseline(context, ending, max(1, round(len(context) / ratio))))
    return prompts
