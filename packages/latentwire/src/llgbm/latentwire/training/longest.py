"""The longest examples of every stage, read once before the first step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.examples import Example
from llgbm.latentwire.reader import Reader


def longest_examples(examples: Sequence[Example], reader: Reader) -> list[Example]:
    """Examples that are refused for their length if any is, each once.

    Args:
        examples: of one stage.
        reader: whose tokens are counted.

    Returns:
        The one whose context has the most tokens, the one whose context has the most bytes, and
        the one with the most tokens in all.
    """
    tokens = {text: len(reader.tokens(text)) for text in {each.context for each in examples}}

    def whole(example: Example) -> int:
        return tokens[example.context] + sum(
            len(reader.tokens(text)) for text in (example.ending, example.answer)
        )

    found = [
        max(examples, key=lambda each: tokens[each.context]),
        max(examples, key=lambda each: len(each.context.encode(errors="replace"))),
        max(examples, key=whole),
    ]
    return list(dict.fromkeys(found))


def check_lengths(
    stage: str, examples: Sequence[Example], reader: Reader, read: Callable[[list[Example]], object]
) -> None:
    """Let the longest examples be read, one by one.

    Args:
        stage: name of the stage, for the message.
        examples: of it.
        reader: whose tokens are counted.
        read: compresses and reads examples, as a step does.

    Raises:
        PromptError: one of them is too long for the encoder, the slots or the reader.
    """
    for example in longest_examples(examples, reader):
        try:
            read([example])
        except PromptError as error:
            raise PromptError(
                f"stage {stage!r}: {example.context[:40]!r}…: {error} (data.longest leaves out "
                "long contexts)"
            ) from error
