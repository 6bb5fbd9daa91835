"""What every encoder is, and where encoders are registered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from llgbm.latentwire.latents import States
from llgbm.latentwire.registry import Registry

# A config's `build(reader: Reader) -> Encoder`.
ENCODERS = Registry("encoder")


class Encoder(nn.Module, ABC):
    """Reads texts without the reader's question, cue or any other literal (anchor rule 6).

    Attributes:
        width: d of the states that it returns.
        gives_inputs: whether states come with the reader's own embeddings of the text.
        gives_received: whether they come with the attention that positions received.
    """

    width: int
    gives_inputs: bool = False
    gives_received: bool = False
    name: ClassVar[str]

    @abstractmethod
    def forward(self, texts: Sequence[str]) -> States:
        """States [b, t, d] of b texts.

        Raises:
            PromptError: a text is longer than the encoder can read.
        """
