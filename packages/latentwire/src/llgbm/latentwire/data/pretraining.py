"""Pretraining examples cut from passages: continue the text, write it again, or quote from it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import CONTINUE, RECONSTRUCT, Example

CUE = "\nQuote: "
KINDS = ("continuation", "reconstruction", "quotation")


@dataclass(frozen=True)
class PretrainingConfig:
    """What is cut from passages. Words, not tokens, so that every reader gets the same texts.

    Args:
        continuation: share of examples whose answer is what follows the context.
        reconstruction: share whose answer is the context itself (ARC-Encoder: one fifth).
        quotation: share that reads a few words of the context and goes on with the next ones:
            what a question will ask of latents, without questions. They carry no mark.
        shortest: fewest words of a context.
        longest: most words of a context.
        rebuilt: most words of a context that is written again.
        answer: words of a continuation or a quotation.
        cue: words that a quotation begins with.
        quotations: places of one context that are quoted in a step; it is compressed once.
    """

    continuation: float = 0.4
    reconstruction: float = 0.2
    quotation: float = 0.4
    shortest: int = 48
    longest: int = 150
    rebuilt: int = 64
    answer: int = 16
    cue: int = 5
    quotations: int = 3

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of examples with a share above 0."""
        return tuple(kind for kind in KINDS if getattr(self, kind) > 0)

    def __post_init__(self) -> None:
        shares = (self.continuation, self.reconstruction, self.quotation)
        if min(shares) < 0 or not sum(shares) > 0:
            raise ConfigError(
                f"pretraining: expected shares of at least 0, one above, got {shares}"
            )
        require_at_least(1, quotations=self.quotations)
        if not 1 <= self.cue + self.answer < self.shortest <= self.longest or self.rebuilt < 1:
            raise ConfigError(
                "pretraining: expected cue + answer < shortest <= longest and rebuilt at least 1, "
                f"got {self.cue} + {self.answer}, {self.shortest}, {self.longest}, {self.rebuilt}"
            )


def pretraining_batch(
    passages: Sequence[str],
    config: PretrainingConfig,
    size: int,
    step: int,
    seed: int,
    kind: str = "",
) -> list[Example]:
    """Examples of `size` contexts, all of one kind, since marks come for whole batches.

    The same (seed, step) gives the same examples, whatever was drawn before. The kind is drawn by
    the shares where none is named.

    Raises:
        ConfigError: no passage is long enough.
    """
    rng = random.Random(f"{seed}:pretraining:{step}")
    drawn = rng.choices(config.kinds, [getattr(config, name) for name in config.kinds])[0]
    kind = kind or drawn
    longest = config.rebuilt if kind == "reconstruction" else config.longest
    # Texts of one step are of like length: padding is work.
    words = rng.randint(min(config.shortest, longest), longest)
    needed = words + (config.answer if kind == "continuation" else 0)
    long_enough = [text for text in passages if text.count(" ") + 1 >= needed]
    if not long_enough:
        raise ConfigError(f"pretraining: expected passages of {needed} words, got none")
    return [
        example
        for _ in range(size)
        for example in _cut(rng.choice(long_enough).split(), kind, words, config, rng)
    ]


def _cut(
    text: list[str], kind: str, words: int, config: PretrainingConfig, rng: random.Random
) -> list[Example]:
    """Examples of one context, cut from the words of a passage."""
    spare = len(text) - words - (config.answer if kind == "continuation" else 0)
    begin = rng.randint(0, spare)
    context = text[begin : begin + words]
    if kind == "reconstruction":
        return [Example(" ".join(context), "", " ".join(context), mark=RECONSTRUCT)]
    if kind == "continuation":
        following = text[begin + words : begin + words + config.answer]
        return [Example(" ".join(context), "", " ".join(following), mark=CONTINUE)]
    return [_quotation(context, config, rng) for _ in range(config.quotations)]


def _quotation(context: list[str], config: PretrainingConfig, rng: random.Random) -> Example:
    """A few words from anywhere in a context, and what follows them there."""
    place = rng.randint(0, len(context) - config.cue - config.answer)
    middle = place + config.cue
    answer = context[middle : middle + config.answer]
    return Example(" ".join(context), CUE + " ".join(context[place:middle]), " ".join(answer))
