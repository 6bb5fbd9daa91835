"""A shared z: token embeddings of one model or several, aligned on a frozen sentence embedding.

After seed 004, "Anchor-Guided Cross-Model Interlingua". Every model has its own projection into
the shared width; the sentence embedding, which is no model's own, is looked at in every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.latentwire.encoders.base import ENCODERS, Encoder
from llgbm.latentwire.encoders.embeddings import embedded
from llgbm.latentwire.encoders.sentence_model import SentenceModel
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import States
from llgbm.latentwire.positions import sinusoids
from llgbm.latentwire.reader import Reader, load_reader


@ENCODERS.register("interlingua")
@dataclass(frozen=True)
class InterlinguaEncoderConfig:
    """States in a shared space, one for each of the reader's tokens.

    Args:
        width: of the shared z; even.
        layers: of the alignment transformer.
        heads: of its attention; must divide the width.
        hidden: width of its MLPs over the width.
        anchors: vectors that the sentence embedding becomes, at least 2: attention over a single
            one has nothing to choose, and would train neither queries nor keys.
        sentence: sentence transformer, a folder or a hub id; the packaged MiniLM where empty.
        models: names of further models whose token embeddings are looked at, too.
    """

    width: int = 512
    layers: int = 2
    heads: int = 8
    hidden: float = 2.0
    anchors: int = 8
    sentence: str = ""
    models: tuple[str, ...] = ()

    def build(self, reader: Reader) -> InterlinguaEncoder:
        """Build it on the reader's device.

        Raises:
            ConfigError: a width that is odd or that heads do not divide, or too few anchors.
            ModelError: a model that cannot be loaded.
        """
        if min(self.width, self.layers, self.heads) < 1 or self.hidden <= 0:
            raise ConfigError(f"encoder: expected numbers of at least 1, got {self}")
        if self.width % 2 or self.width % self.heads:
            raise ConfigError(
                f"encoder.width: expected an even multiple of {self.heads} heads, got {self.width}"
            )
        if self.anchors < 2:
            raise ConfigError(f"encoder.anchors: expected at least 2, got {self.anchors}")
        device = reader.device
        bases = [reader, *(load_reader(name, device=str(device)) for name in self.models)]
        sentence = SentenceModel(self.sentence, device)
        return InterlinguaEncoder(self, bases, sentence).to(device)


class InterlinguaEncoder(Encoder):
    """Embeddings without context, made contextual and shared by an `AlignmentTransformer`."""

    gives_inputs = True

    def __init__(
        self, config: InterlinguaEncoderConfig, bases: Sequence[Reader], sentence: SentenceModel
    ) -> None:
        super().__init__()
        self.width = config.width
        self._bases, self._sentence = list(bases), [sentence]
        self.alignment = AlignmentTransformer(
            config, [base.width for base in bases], sentence.width
        )

    def forward(self, texts: Sequence[str]) -> States:
        """See `Encoder.forward`."""
        read = [embedded(base, texts) for base in self._bases]
        scaled = [
            States(states.values / base.embedding_rms, states.mask)
            for base, states in zip(self._bases, read, strict=True)
        ]
        values = self.alignment(scaled, self._sentence[0].embedding(texts))
        return States(values, read[0].mask, read[0].inputs)


class AlignmentTransformer(nn.Module):
    """Self-attention over the first model's tokens, cross-attention to anchor and other models.

    Args:
        config: sizes.
        widths: of every model's embeddings.
        anchor_width: of the sentence embedding.
    """

    def __init__(
        self, config: InterlinguaEncoderConfig, widths: Sequence[int], anchor_width: int
    ) -> None:
        super().__init__()
        self.config = config
        projections = [nn.Linear(width, config.width) for width in widths]
        self.anchor = nn.Linear(anchor_width, config.anchors * config.width)
        # Everything enters at size 1; the sentence embedding has length 1.
        for projection in projections:
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)
        nn.init.normal_(self.anchor.weight, std=1.0)
        self.projections = nn.ModuleList(projections)
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(
                config.width,
                config.heads,
                round(config.hidden * config.width),
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Sequence[States], anchor: Tensor) -> Tensor:
        """Shared z [b, t, width] of the first model's tokens.

        Args:
            tokens: embeddings [b, t, h] of every model, at size 1; models differ in t and h.
            anchor: [b, d] sentence embeddings of length 1.
        """
        own, *others = (
            projection(states.values) + self._places(states)
            for projection, states in zip(self.projections, tokens, strict=True)
        )
        anchors = self.anchor(anchor).unflatten(-1, (self.config.anchors, self.config.width))
        memory = torch.cat([anchors, *others], dim=1)
        there = torch.ones(anchors.shape[:2], dtype=torch.bool, device=anchors.device)
        known = torch.cat([there, *(states.mask for states in tokens[1:])], dim=1)
        for layer in self.layers:
            own = layer(
                own,
                memory,
                tgt_key_padding_mask=~tokens[0].mask,
                memory_key_padding_mask=~known,
            )
        return self.norm(own)

    def _places(self, states: States) -> Tensor:
        """Positions [t, width] of a model's tokens."""
        places = torch.arange(states.mask.shape[1], device=states.mask.device)
        return sinusoids(places, self.config.width)
