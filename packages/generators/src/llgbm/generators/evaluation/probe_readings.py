"""What adapters do on probes: their deltas, and the next-token distributions at every token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.deltas.base_models import decoder_body
from llgbm.deltas.delta import TOKENS_PER_FORWARD, DeltaSpec
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.next_tokens import next_token_logits
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.training.behaviour import Behaviour

# Token positions that go through the head at once: bounds the logits in float32.
POSITIONS_PER_HEAD = 512
# Of probes by length: padding is work.
LENGTH_GROUPS = 4


@dataclass(frozen=True)
class Readings:
    """What n adapters do on a probe set.

    Attributes:
        deltas: [n, ...] float32.
        hidden: [n, t, hidden], the last hidden states of all t real tokens of all probes.
    """

    deltas: Tensor
    hidden: Tensor


class ProbeReader:
    """Reads adapters on one probe set.

    Args:
        model: frozen base.
        probes: p texts.
        spec: of the deltas.
    """

    def __init__(self, model: nn.Module, probes: ProbeSet, spec: DeltaSpec) -> None:
        self.model = model
        self.behaviour = Behaviour.of(model, probes, spec)
        tokens = self.behaviour.probes
        places = torch.arange(tokens.input_ids.shape[1])
        self._real = (places < tokens.lengths[:, None]).to(device_of(model))

    @torch.no_grad()
    def read(self, weights: LoRAWeights) -> Readings:
        """Read n adapters of one spec."""
        return Readings(self.behaviour(weights), self.hidden(weights))

    @torch.no_grad()
    def hidden(self, weights: LoRAWeights) -> Tensor:
        """Last hidden states at the real tokens of n adapters of one spec, [n, t, hidden]."""
        weights = weights.to(device_of(self.model))
        ids = self.behaviour.probes.input_ids.to(device_of(self.model))
        groups = self._of_like_length()
        read = torch.cat(
            [
                self._hidden(weights, ids[rows, :longest], self._real[rows, :longest])
                for rows, longest in groups
            ],
            dim=1,
        )
        # From the order of groups back to that of probes.
        places = self._real.flatten().cumsum(0).view_as(self._real) - 1
        order = torch.cat([places[rows][self._real[rows]] for rows, _ in groups])
        return read[:, order.argsort()]

    def _of_like_length(self) -> list[tuple[Tensor, int]]:
        """Rows of probes that are read together, and the tokens of the longest."""
        lengths = self._real.sum(1)
        rows = lengths.argsort(stable=True).chunk(LENGTH_GROUPS)
        return [(each, int(lengths[each].max())) for each in rows]

    def _hidden(self, weights: LoRAWeights, ids: Tensor, real: Tensor) -> Tensor:
        """Last hidden states at the real tokens of some probes, [n, t, hidden]."""
        lora, body = FunctionalLoRA(self.model, weights.spec), decoder_body(self.model)
        at_once = max(1, TOKENS_PER_FORWARD // ids.numel())
        kept = []
        for start in range(0, weights.n, at_once):
            part = weights.select(slice(start, start + at_once))
            with lora.applied(part):
                # Padding stands on the right, where causal attention never lets a token see it.
                output = body(input_ids=ids.repeat(part.n, 1), use_cache=False)
            states = output.last_hidden_state.view(part.n, *ids.shape, -1)
            kept.append(states[:, real])
        return torch.cat(kept)

    @torch.no_grad()
    def kl(self, teachers: Tensor, others: Tensor) -> Tensor:
        """KL(teacher || other) of the next-token distributions, mean over tokens, in nats.

        Args:
            teachers: [m, t, hidden], from `read`.
            others: [n, t, hidden], from `read`.

        Returns:
            [n, m] float32.
        """
        sums = torch.zeros(len(others), len(teachers), device=others.device)
        for _, place, divergences in self._divergences(teachers, others):
            sums[:, place] += divergences.sum(1)
        # Rounding may leave the divergence of equal distributions just below zero.
        return (sums / others.shape[1]).clamp_min(0)

    @torch.no_grad()
    def kl_by_probe(self, teacher: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        """KL(teacher || other) summed over the tokens of each of p probes, in nats.

        Args:
            teacher: [t, hidden], from `hidden`.
            others: [n, t, hidden], from `hidden`.

        Returns:
            [n, p] float32, and how many tokens each probe has, [p].
        """
        probes = self._real.nonzero()[:, 0]
        sums = torch.zeros(len(others), len(self._real), device=others.device)
        for part, _, divergences in self._divergences(teacher[None], others):
            sums.index_add_(1, probes[part], divergences)
        return sums.clamp_min(0), self._real.sum(1)

    def _divergences(self, teachers: Tensor, others: Tensor) -> Iterator[tuple[slice, int, Tensor]]:
        """Tokens, place of a teacher, and every other's divergence from it there, [n, tokens]."""
        n, t = others.shape[:2]
        step = max(1, POSITIONS_PER_HEAD // max(n, len(teachers)))
        for start in range(0, t, step):
            part = slice(start, min(start + step, t))
            # Two axes: a product with a slice of three copies the head's weight for each row.
            q = next_token_logits(self.model, others[:, part].flatten(0, 1)).unflatten(0, (n, -1))
            size_q = q.logsumexp(-1)
            for place, row in enumerate(teachers[:, part]):
                p = next_token_logits(self.model, row)
                size_p = p.logsumexp(-1)
                # Logits are subtracted before they are weighted: nothing cancels where p is q.
                apart = (p - q).transpose(0, 1) @ (p - size_p[:, None]).exp()[..., None]
                yield part, place, apart[..., 0].T + size_q - size_p
