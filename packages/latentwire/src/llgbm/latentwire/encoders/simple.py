"""One frozen embedding of the whole text, projected to a few states: the least that can be sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from llgbm.latentwire.encoders.base import ENCODERS, Encoder
from llgbm.latentwire.encoders.sentence_model import SentenceModel
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import States
from llgbm.latentwire.reader import Reader


@ENCODERS.register("simple")
@dataclass(frozen=True)
class SimpleEncoderConfig:
    """A sentence embedding and a learned projection.

    Args:
        model: sentence transformer, a folder or a hub id; the packaged MiniLM where empty.
        states: that the embedding becomes.
        width: of a state.
    """

    model: str = ""
    states: int = 32
    width: int = 256

    def build(self, reader: Reader) -> SimpleEncoder:
        """Build it on the reader's device.

        Raises:
            ConfigError: no states, or states of no width.
            ModelError: see `SentenceModel`.
        """
        if min(self.states, self.width) < 1:
            raise ConfigError(
                f"encoder: expected states and width of at least 1, got {self.states}, {self.width}"
            )
        return SimpleEncoder(self, SentenceModel(self.model, reader.device)).to(reader.device)


class SimpleEncoder(Encoder):
    """Every state is its own linear map of the embedding (seed 004, encoder types)."""

    def __init__(self, config: SimpleEncoderConfig, sentence: SentenceModel) -> None:
        super().__init__()
        self.config = config
        self.width = config.width
        self._sentence = [sentence]
        self.project = nn.Linear(sentence.width, config.states * config.width)
        # An embedding has length 1: with entries of deviation 1, states have size 1.
        nn.init.normal_(self.project.weight, std=1.0)
        nn.init.zeros_(self.project.bias)

    def forward(self, texts: Sequence[str]) -> States:
        """See `Encoder.forward`."""
        projected = self.project(self._sentence[0].embedding(texts))
        values = projected.unflatten(-1, (self.config.states, self.width))
        return States(values, torch.ones(values.shape[:2], dtype=torch.bool, device=values.device))
