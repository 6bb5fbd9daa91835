"""What a reader is given for a batch: it writes after it, and scores given answers after it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from llgbm.latentwire.generation import DecodingConfig, Written, waited, write
from llgbm.latentwire.prefix import Prefix
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import Scored, score


class Prompts(ABC):
    """Prompts of b texts.

    Args:
        reader: that reads them.
        slots: what stands for each context, in tokens or vectors.
        lengths: positions that the reader counts before it answers: tokens and vectors.
        encode_seconds: what it took to make them.
        quantise_seconds: of packing and unpacking, apart from that.
    """

    def __init__(
        self,
        reader: Reader,
        slots: Sequence[int],
        lengths: Sequence[int],
        encode_seconds: float = 0.0,
        quantise_seconds: float = 0.0,
    ) -> None:
        self.reader = reader
        self.slots = list(slots)
        self.lengths = list(lengths)
        self.encode_seconds = encode_seconds
        self.quantise_seconds = quantise_seconds

    @abstractmethod
    def write(self, decoding: DecodingConfig) -> Written:
        """Answers that the reader writes."""

    @abstractmethod
    def score(self, answers: Sequence[Sequence[int]]) -> Scored:
        """The reader's predictions of given answers, b lists of token ids, none empty."""


class PrefixPrompts(Prompts):
    """Vectors or keys and values, then an ending as text.

    Args:
        reader: that reads them.
        prefix: b prefixes.
        endings: b lists of token ids.
        attached: makes the block within which the reader is as the way in needs it.
        encode_seconds: see `Prompts`.
        quantise_seconds: see `Prompts`.
        slots: of every text, where they are not the prefix's positions.
    """

    def __init__(
        self,
        reader: Reader,
        prefix: Prefix,
        endings: Sequence[Sequence[int]],
        attached: Callable[[], AbstractContextManager[None]] = nullcontext,
        encode_seconds: float = 0.0,
        quantise_seconds: float = 0.0,
        slots: Sequence[int] | None = None,
    ) -> None:
        masks = [mask for mask in (prefix.mask, prefix.cache_mask) if mask is not None]
        positions = torch.cat(masks, dim=1).sum(1).tolist()
        opening = len(reader.opening)
        lengths = [opening + m + len(e) for m, e in zip(positions, endings, strict=True)]
        held = positions if slots is None else slots
        super().__init__(reader, held, lengths, encode_seconds, quantise_seconds)
        self.prefix = prefix
        self.endings = endings
        self._attached = attached

    def write(self, decoding: DecodingConfig) -> Written:
        """See `Prompts.write`."""
        begin = waited(self.reader)
        with self._attached():
            # What a way places for the reader is read as a prompt is, before anything is written.
            placed = waited(self.reader) - begin
            written = write(self.reader, self.prefix, self.endings, decoding)
        return replace(written, prefill_seconds=placed + written.prefill_seconds)

    @torch.no_grad()
    def score(self, answers: Sequence[Sequence[int]]) -> Scored:
        """See `Prompts.score`."""
        with self._attached():
            return score(self.reader, self.prefix, self.endings, answers)
