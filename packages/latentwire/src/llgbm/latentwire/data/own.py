"""Questions of your own, from files."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.data.base import SOURCES, Source, check_split
from llgbm.latentwire.data.order import drawn
from llgbm.latentwire.data.question_files import read_questions
from llgbm.latentwire.data.squad import Question
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import Example

# Of the documents in `train`, where no file of validation questions is given.
VALIDATION_SHARE = 0.1
LEAST_FOR_TWO = 4


@SOURCES.register("files")
@dataclass(frozen=True)
class FilesSourceConfig:
    """Questions of your own, as JSON lines or in the form of SQuAD; see `read_questions`.

    Args:
        train: file of the questions that are trained on.
        validation: file of those that steps are chosen by; where none, about a tenth of the
            documents of `train` are kept back for it. Which ones is decided by each one's title (or
            context) alone, so that documents that are added later move no other; only where this
            keeps fewer than two are the two nearest to it kept.
        test: file of those that only `evaluate --split test` asks.
        longest: questions whose context has more words are left out; 0 keeps all.
    """

    train: str = ""
    validation: str = ""
    test: str = ""
    longest: int = 0

    def __post_init__(self) -> None:
        require_at_least(0, longest=self.longest)
        if not self.train.strip():
            raise ConfigError("data.train: expected a file of questions, got none")

    def open(self, seed: int) -> Source:
        """Read the files."""
        return FilesSource(self, seed)


class FilesSource(Source):
    """Questions in an order of every epoch's own; no context stands in two splits.

    Raises:
        ConfigError: a file without questions that are short enough, too few documents to keep
            any back, or a context in two files.
        TaskError: missing or malformed files.
    """

    def __init__(self, config: FilesSourceConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        trained = self._read(config.train)
        if config.validation:
            held_out = self._read(config.validation)
        else:
            trained, held_out = _kept_back(trained, config.train)
        splits = {"train": trained, "validation": held_out}
        if config.test:
            splits["test"] = self._read(config.test)
        _check_apart(splits)
        self.examples = {name: [q.example for q in split] for name, split in splits.items()}
        told = "\n".join(map(repr, [*self.examples["train"], "", *self.examples["validation"]]))
        self.fingerprint = hashlib.sha256(told.encode()).hexdigest()

    def batch(self, size: int, step: int) -> list[Example]:
        """See `Source.batch`."""
        return drawn(self.examples["train"], size, step, self.seed)

    def validation(self, size: int) -> list[Example]:
        """See `Source.validation`."""
        return self.examples["validation"][:size]

    def questions(self, split: str) -> list[Example]:
        """See `Source.questions`."""
        check_split(split)
        if split not in self.examples:
            raise ConfigError("data.test: expected a file of questions to test on, got none")
        return self.examples[split]

    def texts(self) -> list[str]:
        """See `Source.texts`."""
        return list(dict.fromkeys(example.context for example in self.examples["train"]))

    def specimens(self) -> list[Example]:
        """See `Source.specimens`."""
        return self.examples["train"]

    def _read(self, name: str) -> list[Question]:
        longest = self.config.longest
        found = [
            question
            for question in read_questions(Path(name))
            if not longest or len(question.context.split()) <= longest
        ]
        if not found:
            raise ConfigError(f"data.longest: no question of {name} has so short a context")
        # Mixed: the first few are then of many documents, not of one.
        random.Random("questions").shuffle(found)
        return found


def _document(question: Question) -> str:
    """What stands in one split only, where a file is divided: a title, or else a context."""
    return question.title or question.context


def _draw(document: str) -> float:
    """A number from 0 to 1 that is always the same for a document."""
    return int(hashlib.sha256(document.encode()).hexdigest()[:12], 16) / 16**12


def _kept_back(questions: list[Question], name: str) -> tuple[list[Question], list[Question]]:
    """Divide questions by document; the second part has about a tenth of them, at least one."""
    draws = {document: _draw(document) for document in {_document(each) for each in questions}}
    if len(draws) < 2:
        raise ConfigError(
            f"data.train: {name}: expected at least two documents, of which one is kept back for "
            "validation, got one: give a file as data.validation"
        )
    nearest = sorted(draws, key=lambda document: draws[document])
    share = sum(draw < VALIDATION_SHARE for draw in draws.values())
    # Two where there are some: latents of one text are held against those of another.
    least = 2 if len(draws) >= LEAST_FOR_TWO else 1
    chosen = set(nearest[: min(max(share, least), len(draws) - 1)])
    return (
        [question for question in questions if _document(question) not in chosen],
        [question for question in questions if _document(question) in chosen],
    )


def _check_apart(splits: dict[str, list[Question]]) -> None:
    """Refuse a context that is trained on and asked about, or chosen by and tested on."""
    seen: dict[str, str] = {}
    for name, questions in splits.items():
        for context in {question.context for question in questions}:
            if seen.setdefault(context, name) != name:
                raise ConfigError(
                    f"data.{name}: expected contexts that {seen[context]} does not have, got "
                    f"{context[:60]!r}"
                )
