"""Sources of packaged data, and of pairs that are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.data.base import SOURCES, Source, check_split
from llgbm.latentwire.data.key_value import check_pairs, key_value_examples
from llgbm.latentwire.data.order import drawn
from llgbm.latentwire.data.passages import load_passages
from llgbm.latentwire.data.pretraining import PretrainingConfig, pretraining_batch
from llgbm.latentwire.data.reading import LONGEST_ANSWER, load_reading, reading_batch
from llgbm.latentwire.data.squad import load_squad
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import Example


@SOURCES.register("squad")
@dataclass(frozen=True)
class SquadSourceConfig:
    """Packaged SQuAD questions, divided by article.

    Args:
        limit: use the first so many training questions; 0 for all.
        longest: questions whose passage has more words are left out; 0 keeps all.
    """

    limit: int = 0
    longest: int = 0

    def __post_init__(self) -> None:
        require_at_least(0, limit=self.limit, longest=self.longest)

    def open(self, seed: int) -> Source:
        """Load them."""
        return SquadSource(self, seed)


class SquadSource(Source):
    """Questions in an order of every epoch's own."""

    def __init__(self, config: SquadSourceConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        self.trained = self._kept("train", config)[: config.limit or None]
        self.held_out = self._kept("validation", config)
        if not self.trained or not self.held_out:
            raise ConfigError(f"data.longest: no question has so short a passage: {config.longest}")

    def batch(self, size: int, step: int) -> list[Example]:
        """See `Source.batch`."""
        return drawn(self.trained, size, step, self.seed)

    def validation(self, size: int) -> list[Example]:
        """See `Source.validation`."""
        return self.held_out[:size]

    def questions(self, split: str) -> list[Example]:
        """See `Source.questions`."""
        check_split(split)
        return self._kept(split, self.config)

    def texts(self) -> list[str]:
        """See `Source.texts`."""
        return list(dict.fromkeys(example.context for example in self.trained))

    def specimens(self) -> list[Example]:
        """See `Source.specimens`."""
        return self.trained

    def _kept(self, split: str, config: SquadSourceConfig) -> list[Example]:
        return [
            question.example
            for question in load_squad(split)
            if not config.longest or len(question.context.split()) <= config.longest
        ]


@SOURCES.register("reading")
@dataclass(frozen=True)
class ReadingSourceConfig:
    """Questions of several reading tasks about windows of their passages; asked is SQuAD.

    Args:
        longest: words of a window, and of the held-out passages.
        questions: at most, about one window in a step; it is compressed once.
    """

    longest: int = 120
    questions: int = 2

    def __post_init__(self) -> None:
        require_at_least(1, questions=self.questions)
        require_at_least(2 * LONGEST_ANSWER, longest=self.longest)

    def open(self, seed: int) -> Source:
        """Load them."""
        return ReadingSource(self, seed)


class ReadingSource(SquadSource):
    """Windows of training passages; validation and test are SQuAD's."""

    def __init__(self, config: ReadingSourceConfig, seed: int) -> None:
        super().__init__(SquadSourceConfig(longest=config.longest), seed)
        self.reading, self.passages = config, load_reading()

    def batch(self, size: int, step: int) -> list[Example]:
        """See `Source.batch`: `size` windows."""
        config = self.reading
        return reading_batch(self.passages, config.longest, config.questions, size, step, self.seed)

    def texts(self) -> list[str]:
        """See `Source.texts`: the beginning of every passage."""
        return [" ".join(each.words[: self.reading.longest]) for each in self.passages]

    def specimens(self) -> list[Example]:
        """See `Source.specimens`: windows are drawn."""
        return self.batch(8, 0)


@SOURCES.register("pretraining")
@dataclass(frozen=True)
class PretrainingSourceConfig:
    """Passages to continue, write again and quote from.

    Args:
        cuts: what is cut from them.
    """

    cuts: PretrainingConfig = field(default_factory=PretrainingConfig)

    def open(self, seed: int) -> Source:
        """Load them."""
        return PretrainingSource(self, seed)


class PretrainingSource(Source):
    """Passages; every fiftieth is kept for validation."""

    def __init__(self, config: PretrainingSourceConfig, seed: int) -> None:
        self.config, self.seed = config, seed
        passages = load_passages()
        self.held_out = passages[::50]
        self.trained = tuple(text for place, text in enumerate(passages) if place % 50)

    def batch(self, size: int, step: int) -> list[Example]:
        """See `Source.batch`."""
        return pretraining_batch(self.trained, self.config.cuts, size, step, self.seed)

    def validation(self, size: int) -> list[Example]:
        """See `Source.validation`: as many of every kind that is trained on."""
        cuts = replace(self.config.cuts, quotations=1)
        return [
            example
            for place, kind in enumerate(cuts.kinds)
            for example in pretraining_batch(
                self.held_out, cuts, -(-size // len(cuts.kinds)), place, 0, kind
            )
        ][:size]

    def questions(self, split: str) -> list[Example]:
        """See `Source.questions`."""
        raise ConfigError("data: pretraining asks no questions: evaluate on squad")

    def texts(self) -> list[str]:
        """See `Source.texts`."""
        return list(self.trained)


@SOURCES.register("key_value")
@dataclass(frozen=True)
class KeyValueSourceConfig:
    """Key-value retrieval.

    Args:
        pairs: of an example.
        examples: of the training split.
        keys: characters that keys are drawn from.
    """

    pairs: int = 4
    examples: int = 4096
    keys: str = "abcdefghijklmnop"

    def __post_init__(self) -> None:
        check_pairs(self.pairs, self.keys)
        # A quarter of the number is what evaluation asks.
        require_at_least(4, examples=self.examples)

    def open(self, seed: int) -> Source:
        """Draw them."""
        return KeyValueSource(self, seed)


class KeyValueSource(Source):
    """Pairs and a question about one of them."""

    def __init__(self, config: KeyValueSourceConfig, seed: int) -> None:
        self.config, self.seed = config, seed

    @cached_property
    def trained(self) -> list[Example]:
        """The training split."""
        config = self.config
        return key_value_examples(config.examples, config.pairs, self.seed, config.keys)

    def batch(self, size: int, step: int) -> list[Example]:
        """See `Source.batch`."""
        return drawn(self.trained, size, step, self.seed)

    def validation(self, size: int) -> list[Example]:
        """See `Source.validation`."""
        return self._unseen(-1, size)

    def questions(self, split: str) -> list[Example]:
        """See `Source.questions`; at most a quarter of the training split's number."""
        check_split(split)
        return self._unseen(-1 if split == "validation" else -2, self.config.examples // 4)

    def texts(self) -> list[str]:
        """See `Source.texts`."""
        return list(dict.fromkeys(example.context for example in self.trained))

    def _unseen(self, seed: int, size: int) -> list[Example]:
        """Examples whose contexts are not in the training split, the same for every run."""
        seen = {example.context for example in self.trained}
        config = self.config
        found = key_value_examples(2 * size, config.pairs, seed, config.keys)
        return [example for example in found if example.context not in seen][:size]
