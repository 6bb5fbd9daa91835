"""Parse rate: how often a freely written answer is one of the choices, apart from being right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from llgbm.deltas.task import Example


def normalised(text: str) -> str:
    """Lower case, one space between words, no punctuation or articles' quotes around them."""
    return " ".join(re.sub(r"[^\w\s.+-]", " ", text.lower()).split()).strip(" .")


def parsed_choice(answer: str, choices: Sequence[str]) -> int | None:
    """Return the choice that an answer begins with, or None.

    Teachers learn an answer and not to stop after it, so what follows at a word's boundary is
    let pass; the longest choice that fits counts.

    Args:
        answer: as written.
        choices: continuations.
    """
    words = normalised(answer).split()
    best, longest = None, 0
    for index, choice in enumerate(choices):
        wanted = normalised(choice).split()
        # The last word of an answer may carry the full stop that ended it.
        found = [word.strip(".") for word in words[: len(wanted)]]
        if wanted and len(wanted) > longest and found == [word.strip(".") for word in wanted]:
            best, longest = index, len(wanted)
    return best


def answerable(
    tokenizer: Any, examples: Sequence[Example], count: int, max_new_tokens: int
) -> list[Example]:
    """Return the first `count` examples whose every choice fits into `max_new_tokens`.

    A choice that does not fit could never be parsed.

    Args:
        tokenizer: of the base.
        examples: to choose from.
        count: at most so many.
        max_new_tokens: of an answer.
    """
    found: list[Example] = []
    for example in examples:
        lengths = [
            len(tokenizer(choice, add_special_tokens=False)["input_ids"])
            for choice in example.choices
        ]
        if len(found) < count and max(lengths) <= max_new_tokens:
            found.append(example)
    return found
