"""What is compressed, what is read after it, and what is to be answered."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llgbm.latentwire.errors import PromptError

CONTINUE, RECONSTRUCT = "continue", "reconstruct"
MARKS = (CONTINUE, RECONSTRUCT)


@dataclass(frozen=True)
class Example:
    """One prompt and its answer.

    Attributes:
        context: text that latents stand for; the encoder sees this and nothing else.
        ending: text that the reader reads after the latents: a question and the cue.
        answer: what is to be written.
        golds: all answers that count as right; `answer` alone where empty.
        mark: learned vector between latents and ending that says what to do in pretraining:
            `continue` or `reconstruct`; none for questions.
        title: of the document, which no other split has.
    """

    context: str
    ending: str
    answer: str
    golds: tuple[str, ...] = ()
    mark: str = ""
    title: str = ""

    @property
    def accepted(self) -> tuple[str, ...]:
        """Answers that count as right."""
        return self.golds or (self.answer,)


def check_examples(examples: Iterable[Example]) -> None:
    """Refuse what cannot be trained on or asked.

    Raises:
        PromptError: an empty context or answer, an unknown mark, or no examples at all.
    """
    number = 0
    for number, example in enumerate(examples, 1):
        for part in ("context", "answer"):
            if not getattr(example, part).strip():
                raise PromptError(f"example {number}: {part}: expected text, got none")
        if example.mark and example.mark not in MARKS:
            raise PromptError(f"example {number}: mark: expected {MARKS}, got {example.mark!r}")
    if not number:
        raise PromptError("examples: expected at least one, got none")
