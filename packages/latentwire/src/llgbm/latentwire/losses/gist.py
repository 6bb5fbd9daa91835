"""Gist reconstruction: a small head must name the context's tokens from latents alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from llgbm.latentwire.attention_heads import split_heads
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.positions import sinusoids
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


@TERMS.register("gist")
@dataclass(frozen=True)
class GistTermConfig:
    """Mean nats of the context's tokens, each asked for by its position.

    Args:
        weight: of the term.
        schedule: of the weight.
        width: of the head's attention, even.
        heads: of the attention; must divide the width.
        tokens: of every context, drawn anew at every step; all where it has no more.
    """

    weight: float = 0.1
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    width: int = 128
    heads: int = 4
    tokens: int = 64

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2 or self.heads < 1 or self.width % self.heads:
            raise ConfigError(
                "gist: expected an even width that the heads divide, "
                f"got width {self.width}, heads {self.heads}"
            )
        if self.tokens < 1:
            raise ConfigError(f"gist.tokens: expected at least 1, got {self.tokens}")

    def build(self, compressor: Compressor, reader: Reader) -> GistTerm:
        """Build it."""
        return GistTerm(self, compressor.width, reader.width)


class GistHead(nn.Module):
    """Positions ask, slots answer: cross-attention, an MLP, and a vector of the reader's width."""

    def __init__(self, config: GistTermConfig, width: int, reader_width: int) -> None:
        super().__init__()
        inner = config.width
        self.inner, self.heads = inner, config.heads
        self.slots = nn.Linear(width, inner)
        self.query, self.key, self.value = (nn.Linear(inner, inner, bias=False) for _ in range(3))
        self.mlp = nn.Sequential(
            nn.LayerNorm(inner), nn.Linear(inner, 2 * inner), nn.GELU(),
            nn.Linear(2 * inner, reader_width), nn.LayerNorm(reader_width),
        )  # fmt: skip

    def forward(self, latents: Latents, lengths: Tensor, positions: Tensor) -> Tensor:
        """Vectors [b, n, h] for positions [b, n] of texts of `lengths` [b] tokens."""
        asked = sinusoids(positions, self.inner)
        slots = self.slots(latents.values.float())
        # A slot's place is the middle of its share of the tokens.
        order = torch.arange(slots.shape[1], device=slots.device)
        middles = (order + 0.5) * lengths[:, None] / latents.counts[:, None]
        found = scaled_dot_product_attention(
            split_heads(self.query(asked), self.heads),
            split_heads(self.key(slots + sinusoids(middles, self.inner)), self.heads),
            split_heads(self.value(slots), self.heads),
            attn_mask=latents.mask[:, None, None, :],
        )
        return self.mlp(asked + found.transpose(1, 2).flatten(2))


class GistTerm(Term):
    """Cross-entropy through the reader's frozen embedding table.

    Source: seed 004, milestone 3 (there a distance of embeddings; here tokens are named).
    """

    def __init__(self, config: GistTermConfig, width: int, reader_width: int) -> None:
        super().__init__()
        self.tokens = config.tokens
        self.head = GistHead(config, width, reader_width)

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        device = step.reader.device
        draw = step.generator("gist")
        positions, targets = [], []
        for ids in step.contexts:
            chosen = torch.randperm(len(ids), generator=draw)[: self.tokens]
            positions.append(chosen)
            targets.append(torch.tensor(ids)[chosen])
        real = pad_sequence([torch.ones(len(each), dtype=torch.bool) for each in targets], True)
        real = real.to(device)
        lengths = torch.tensor([len(ids) for ids in step.contexts], device=device)
        places = pad_sequence(positions, True).to(device)
        vectors = self.head(step.whole_latents, lengths, places)[real]
        table = step.reader.embedding
        logits = (vectors.to(table.dtype) @ table.T).float()
        wanted = torch.cat(targets).to(device)
        self.logged = {"accuracy": float((logits.argmax(-1) == wanted).float().mean())}
        return cross_entropy(logits, wanted)
