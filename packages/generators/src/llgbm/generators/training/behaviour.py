"""Behaviour: the deltas that generated adapters really cause, through the frozen base."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llgbm.deltas.delta import DeltaSpec, compute_base_activation, compute_delta, tokenized
from llgbm.deltas.next_tokens import next_token_logits
from llgbm.deltas.probes import ProbeSet, TokenizedProbes
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.training.next_tokens import require_next_tokens


@dataclass(frozen=True)
class Behaviour:
    """A frozen base with probes; called on weights, it returns their deltas.

    Attributes:
        model: frozen base.
        probes: p tokenized texts.
        spec: what is read.
        base_activation: v(B) of the same.
        checkpoint: keep only what enters each layer; see `FunctionalLoRA.applied`.
    """

    model: nn.Module
    probes: TokenizedProbes
    spec: DeltaSpec
    base_activation: Tensor
    checkpoint: bool = False

    @classmethod
    def of(
        cls, model: nn.Module, probes: ProbeSet, spec: DeltaSpec, checkpoint: bool = False
    ) -> Behaviour:
        """Tokenize the probes and run the base on them once."""
        tokens = tokenized(model, probes)
        base = compute_base_activation(model, tokens, spec)
        return cls(model, tokens, spec, base, checkpoint)

    def __call__(self, weights: LoRAWeights) -> Tensor:
        """Deltas of n adapters, [n, ...] float32, differentiable."""
        return compute_delta(
            self.model, weights, self.probes, self.spec, self.base_activation, self.checkpoint
        )

    def log_probabilities(self, deltas: Tensor) -> Tensor:
        """Next-token log-probabilities after each probe of a base that has moved by `deltas`.

        Args:
            deltas: [n, p, layers, hidden] float32.

        Returns:
            [n, p, vocabulary] float32, differentiable in `deltas`.

        Raises:
            SettingError: the deltas do not hold the last layer's last token of each probe.
        """
        spec = self.spec
        require_next_tokens(spec)
        layer = spec.layers.index(-1)
        states = self.base_activation.to(deltas.device)[:, layer] + deltas[:, :, layer]
        return torch.log_softmax(next_token_logits(self.model, states), dim=-1)
