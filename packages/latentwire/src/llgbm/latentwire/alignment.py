"""Rule 7: the first gold token stands right after the ending, for every tokenizer."""

from __future__ import annotations

from collections.abc import Iterable

from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.examples import Example
from llgbm.latentwire.reader import Reader


def check_alignment(reader: Reader, examples: Iterable[Example]) -> None:
    """Refuse examples whose ending and answer a tokenizer would not divide where we do.

    Ending and answer are tokenized apart. Where the whole text has other tokens up to the first
    of the answer, what is scored at t = 0 is not what the reader would have to write.

    Args:
        reader: whose tokenizer is asked.
        examples: that are trained on or asked.

    Raises:
        PromptError: names the example and both tokens.
    """
    for number, example in enumerate(examples, 1):
        ending = reader.tokens(example.ending)
        first = reader.answer_tokens(example.answer, end=False)[0]
        whole = reader.tokens(f"{example.ending} {example.answer.strip()}")
        if whole[: len(ending) + 1] != [*ending, first]:
            got = whole[len(ending)] if len(whole) > len(ending) else None
            raise PromptError(
                f"{reader.name}: example {number}: expected the answer {example.answer!r} to begin "
                f"with token {first} after {len(ending)} of the ending, got {got}"
            )
