"""One training step as loss terms see it: everything is computed once, when first asked for."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.examples import Example
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.prefix import Prefix, replayed
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import Scored, score


@dataclass(eq=False)
class Step:
    """What terms may ask of a step.

    Attributes:
        compressor: being trained.
        reader: frozen.
        examples: of the batch.
        latents: of their contexts, after latent dropout; what the reader is given.
        number: steps taken before this one.
        steps: of the whole training.
        seed: of what terms draw.
        whole: latents before dropout, for terms that ask what every slot holds and so must know
            where each stands; None where nothing was dropped.
    """

    compressor: Compressor
    reader: Reader
    examples: Sequence[Example]
    latents: Latents
    number: int
    steps: int
    seed: int = 0
    whole: Latents | None = None

    @property
    def whole_latents(self) -> Latents:
        """Latents before dropout."""
        return self.latents if self.whole is None else self.whole

    @cached_property
    def contexts(self) -> list[list[int]]:
        """Token ids of the contexts, nothing special added."""
        return [self.reader.tokens(example.context) for example in self.examples]

    @cached_property
    def endings(self) -> list[list[int]]:
        """Token ids of the endings."""
        return [self.reader.tokens(example.ending) for example in self.examples]

    @cached_property
    def answers(self) -> list[list[int]]:
        """Token ids of the answers with the end token; marked texts have no end."""
        return [
            self.reader.answer_tokens(example.answer, end=not example.mark)
            for example in self.examples
        ]

    @cached_property
    def embeds(self) -> Tensor | None:
        """Vectors [b, m, h] that the reader reads as embeddings; None where it reads none."""
        return self.compressor.port.embeds(self.latents)

    @cached_property
    def whole_embeds(self) -> Tensor | None:
        """What `embeds` are without dropout."""
        return self.embeds if self.whole is None else self.compressor.port.embeds(self.whole)

    @cached_property
    def prefix(self) -> Prefix:
        """What stands before the endings."""
        way = self.compressor.port.way
        return way.prefix(self.reader, self.latents, self.embeds)

    @cached_property
    def marks(self) -> Tensor | None:
        """[b, 1, h] learned marks of pretraining, or None."""
        return self.compressor.port.mark_vectors([example.mark for example in self.examples])

    @cached_property
    def scored(self) -> Scored:
        """The reader's predictions of the answers from latents, with gradients.

        Those with every layer where they are there already: one pass serves both.
        """
        layers: Scored | None = self.__dict__.get("scored_layers")
        return self._score(all_layers=False) if layers is None else layers

    @cached_property
    def scored_layers(self) -> Scored:
        """The same with hidden states after every layer."""
        return self._score(all_layers=True)

    @cached_property
    def taught(self) -> Scored:
        """The bare reader's predictions of the same answers from the text (anchor rule 8).

        Tokens come in the order of `scored`; hidden states after every layer are there.
        """
        with torch.no_grad():
            prefix = replayed(self.reader, self.contexts)
            return score(self.reader, prefix, self.endings, self.answers, all_layers=True)

    @cached_property
    def context_embeddings(self) -> tuple[Tensor, Tensor]:
        """The reader's embeddings [b, t, h] float32 of the contexts, and their mask [b, t]."""
        prefix = replayed(self.reader, self.contexts)
        return prefix.embeds, prefix.mask

    def generator(self, term: str) -> torch.Generator:
        """What a term draws from: the same at the same step of the same seed, on the CPU."""
        seed = zlib.crc32(f"{self.seed}/{self.number}/{term}".encode())
        return torch.Generator(device="cpu").manual_seed(seed)

    def _score(self, all_layers: bool) -> Scored:
        with self.compressor.attached(self.latents):
            return score(
                self.reader, self.prefix, self.endings, self.answers, self.marks, all_layers
            )
