"""Learned queries that look at a frozen sentence transformer's token states, through a gate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from llgbm.latentwire.attention_heads import split_heads
from llgbm.latentwire.encoders.base import ENCODERS, Encoder
from llgbm.latentwire.encoders.sentence_model import SentenceModel
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import States
from llgbm.latentwire.reader import Reader

QUERY_SIZE = 0.02


@ENCODERS.register("sentence")
@dataclass(frozen=True)
class STQueryEncoderConfig:
    """Query slots over a sentence transformer.

    Args:
        model: sentence transformer, a folder or a hub id; the packaged MiniLM where empty.
        chunk: tokens that it reads at a time; as many as it can where 0. Longer texts are read
            in several chunks, whole.
        queries: slots, whatever the length of the text.
        width: of a slot.
        heads: attention heads; must divide the width.
        gate: how far the gate is open at the start, between 0 and 1.
    """

    model: str = ""
    chunk: int = 0
    queries: int = 64
    width: int = 384
    heads: int = 8
    gate: float = 0.1

    def build(self, reader: Reader) -> STQueryEncoder:
        """Build it on the reader's device.

        Raises:
            ConfigError: heads that do not divide the width, a gate that is shut or wide open.
            ModelError: see `SentenceModel`.
        """
        if min(self.queries, self.width, self.heads) < 1 or self.width % self.heads:
            raise ConfigError(
                "encoder: expected at least 1 query and heads that divide the width, "
                f"got {self.queries}, {self.heads}, {self.width}"
            )
        if not 0 < self.gate < 1:
            raise ConfigError(f"encoder.gate: expected between 0 and 1, got {self.gate:g}")
        sentence = SentenceModel(self.model, reader.device, self.chunk)
        return STQueryEncoder(self, sentence).to(reader.device)


class STQueryEncoder(Encoder):
    """Slot = query + gate * attended summary (seed 004, 2025-09-25: LN, linear, sigmoid).

    Slots stand in the text's order, as poolers expect: a slot has a place in the text, and
    attention falls with the squared distance from it, in each head at another rate. Places and
    rates are learned; without them all slots would begin as the same average.
    """

    def __init__(self, config: STQueryEncoderConfig, sentence: SentenceModel) -> None:
        super().__init__()
        self.config = config
        width = self.width = config.width
        self._sentence = [sentence]
        self.queries = nn.Parameter(QUERY_SIZE * torch.randn(config.queries, width))
        self.places = nn.Parameter((torch.arange(config.queries) + 0.5) / config.queries)
        # At rate 1 a head sees about a slot's share of the text, at 0.01 ten times as much.
        self.log_rates = nn.Parameter(torch.linspace(0.0, math.log(0.01), config.heads))
        self.norm = nn.LayerNorm(sentence.width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(sentence.width, width, bias=False)
        self.value = nn.Linear(sentence.width, width, bias=False)
        self.merge = nn.Linear(width, width, bias=False)
        opening = nn.Linear(width, width)
        nn.init.normal_(opening.weight, std=0.2 * width**-0.5)
        nn.init.constant_(opening.bias, math.log(config.gate / (1 - config.gate)))
        self.gate = nn.Sequential(nn.LayerNorm(width), opening, nn.Sigmoid())
        self.project = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))

    def forward(self, texts: Sequence[str]) -> States:
        """See `Encoder.forward`."""
        read = self._sentence[0].states(texts)
        tokens = self.norm(read.values)
        queries = split_heads(self.query(self.queries), self.config.heads)[None].expand(
            len(texts), -1, -1, -1
        )
        looked = scaled_dot_product_attention(
            queries,
            split_heads(self.key(tokens), self.config.heads),
            split_heads(self.value(tokens), self.config.heads),
            attn_mask=self._nearness(read.lengths).masked_fill(
                ~read.mask[:, None, None, :], -torch.inf
            ),
        )
        attended = self.merge(looked.transpose(1, 2).flatten(2))
        slots = self.project(self.queries + self.gate(attended) * attended)
        return States(slots, torch.ones(slots.shape[:2], dtype=torch.bool, device=slots.device))

    def _nearness(self, lengths: Tensor) -> Tensor:
        """What attention's logits get [b, heads, q, t] for the distance from a slot's place."""
        steps = torch.arange(int(lengths.max()), device=lengths.device) + 0.5
        shares = steps[None, :] / lengths[:, None]
        apart = (shares[:, None, :] - self.places[:, None]) * self.config.queries
        return -self.log_rates.exp()[:, None, None] * apart.square()[:, None]
