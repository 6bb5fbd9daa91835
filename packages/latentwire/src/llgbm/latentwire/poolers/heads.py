"""Positions of every head's own: each key head of each layer keeps those that it needs.

A slot is then no longer a position of the text: m slots hold keys and values of different
positions for different heads, and for some heads of many more than m. What a head needs is told by
the attention that its keys received while the reader wrote the text again (`attention_received`,
after KVzip), which needs no training, and corrected by a learned score. How many pairs a head gets
is fixed when the compressor is fitted: as many as are among the most looked at in training texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from llgbm.deltas.errors import require_at_least
from llgbm.latentwire.encoders.base import Encoder
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.head_shares import fitted_shares, head_counts, owners
from llgbm.latentwire.latents import Latents, States, slot_mask
from llgbm.latentwire.poolers.base import POOLERS, Pooler
from llgbm.latentwire.poolers.scored import passed
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.slots import SlotsConfig

# Weights below this are alike: no head needs such a position.
LEAST = 1e-4


@POOLERS.register("heads")
@dataclass(frozen=True)
class HeadsPoolerConfig:
    """For every key head the positions with the highest scores; for the way `heads`.

    Args:
        measured: training texts that heads' shares and sizes of states are measured on.
    """

    measured: int = 32

    def __post_init__(self) -> None:
        require_at_least(1, measured=self.measured)

    def build(self, encoder: Encoder, reader: Reader, slots: SlotsConfig) -> HeadsPooler:
        """Build it.

        Raises:
            ConfigError: an encoder that does not give what positions received.
        """
        if not encoder.gives_received:
            raise ConfigError(
                "pooler heads: expected the encoder `cache` with encoder.received=true, which "
                "alone knows what heads look at"
            )
        return HeadsPooler(self, reader, slots)


class HeadsPooler(Pooler):
    """Keys and values of positions chosen head by head.

    Args:
        config: settings.
        reader: whose keys and values they are.
        slots: of texts; the shares are right for their ratio.

    Attributes:
        shares: [layers * kv_heads], pairs of every head a slot; all 1 before they are fitted.
    """

    slots_alike = False
    mean: Tensor
    size: Tensor
    shares: Tensor

    def __init__(self, config: HeadsPoolerConfig, reader: Reader, slots: SlotsConfig) -> None:
        super().__init__()
        self.config, self.slots = config, slots
        self.shape = (reader.layers, 2, reader.kv_heads, reader.head_dim)
        self.width = reader.layers * 2 * reader.kv_heads * reader.head_dim
        heads = reader.layers * reader.kv_heads
        pair = (heads, 2, reader.head_dim)
        self.register_buffer("mean", torch.zeros(pair))
        self.register_buffer("size", torch.ones(pair))
        self.register_buffer("shares", torch.ones(heads, dtype=torch.float64))
        # Starts at what the attention says.
        self.score = nn.Parameter(torch.zeros(pair))

    @torch.no_grad()
    def fit(self, encoder: Encoder, texts: Sequence[str]) -> None:
        """Measure heads' shares, and mean and size of their states, on the first texts."""
        total, square = torch.zeros_like(self.mean), torch.zeros_like(self.mean)
        received, slots = [], []
        for text in texts[: self.config.measured]:
            states = encoder([text])
            assert states.received is not None
            pairs = self._pairs(states.values[0])
            total, square = total + pairs.sum(0), square + pairs.square().sum(0)
            received.append(states.received[0].flatten(1))
            # What is too long to be compressed tells of heads all the same.
            longer = replace(self.slots, largest=max(self.slots.largest, len(pairs)))
            slots += longer.counts(torch.tensor([len(pairs)])).tolist()
        count = sum(map(len, received))
        self.mean.copy_(total / count)
        self.size.copy_((square / count - self.mean.square()).clamp(min=1e-12).sqrt())
        self.shares.copy_(fitted_shares(received, slots))

    def forward(self, states: States, counts: Tensor) -> Latents:
        """See `Pooler.forward`."""
        assert states.received is not None
        values = states.values.new_zeros(len(counts), int(counts.max()), self.width)
        lengths = states.lengths.tolist()
        for row, (length, count) in enumerate(zip(lengths, counts.tolist(), strict=True)):
            pairs = self._pairs(states.values[row, :length])
            standard = (pairs - self.mean) / self.size
            learned = (standard * self.score).sum((2, 3)) / self.score[0].numel() ** 0.5
            looked_at = states.received[row, :length].flatten(1).clamp(min=LEAST).log()
            scores = looked_at + learned
            head, places = self._chosen(scores.detach(), count)
            gates = passed(scores[places, head])
            # A head that could keep more than there is says nothing in the rest.
            gates = torch.where(places < 0, 0.0, gates)
            kept = pairs[places, head] * gates[:, None, None]
            values[row, :count] = kept.reshape(count, self.width)
        return Latents(values, slot_mask(counts))

    def _pairs(self, values: Tensor) -> Tensor:
        """[t, width] as [t, heads, 2, head_dim]: key and value of every head."""
        # [t, layers, 2, kv_heads, head_dim] before.
        return values.unflatten(-1, self.shape).transpose(2, 3).flatten(1, 2)

    def _chosen(self, scores: Tensor, slots: int) -> tuple[Tensor, Tensor]:
        """Head and position of every pair that is kept, [slots * heads] each; -1 for no position.

        Args:
            scores: [t, heads].
            slots: m.
        """
        counts = head_counts(self.shares, slots)
        ranked = scores.argsort(dim=0, descending=True, stable=True).cpu()
        positions = torch.full((int(counts.sum()),), -1)
        end = 0
        for number, count in enumerate(counts.tolist()):
            best = ranked[:count, number].sort().values
            end += count
            # Last, as they stand before the reader's text.
            positions[end - len(best) : end] = best
        return owners(counts)[0].to(scores.device), positions.to(scores.device)
