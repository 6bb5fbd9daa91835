"""Deltas: how far adapters move a frozen model's hidden states on probe texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from llgbm.deltas.base_models import decoder_body
from llgbm.deltas.errors import SettingError
from llgbm.deltas.fingerprint import text_fingerprint
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.probes import ProbeSet, TokenizedProbes
from llgbm.deltas.shared_prefix import prefix_run_once
from llgbm.deltas.short_attention import short_attention
from llgbm.deltas.spec import device_of
from llgbm.deltas.tokenizers import tokenizer_of
from llgbm.deltas.weights import LoRAWeights

# Tokens in one forward without gradient: bounds memory, large enough to keep the linears busy.
TOKENS_PER_FORWARD = 4096


@dataclass(frozen=True)
class DeltaSpec:
    """What is read off the hidden states.

    Args:
        layers: indices into the tuple of hidden states that transformers returns; -1 is the
            last one, after the final norm (Delta Activations).
        pooling: over tokens: the last real one, or the mean of the real ones.
        aggregation: over probes: their mean (one layer gives [n, hidden], several are
            concatenated to [n, layers * hidden]), or none: [n, probes, layers, hidden].

    Raises:
        ValueError: no layers or an unknown word.
    """

    layers: tuple[int, ...] = (-1,)
    pooling: Literal["last_token", "mean"] = "last_token"
    aggregation: Literal["mean", "per_probe"] = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise ValueError("DeltaSpec: layers: expected at least one, got none")
        if self.pooling not in ("last_token", "mean"):
            raise ValueError(f"pooling: expected last_token or mean, got {self.pooling!r}")
        if self.aggregation not in ("mean", "per_probe"):
            raise ValueError(f"aggregation: expected mean or per_probe, got {self.aggregation!r}")

    @property
    def fingerprint(self) -> str:
        """sha256 of the three fields."""
        return text_fingerprint(
            {
                "layers": list(self.layers),
                "pooling": self.pooling,
                "aggregation": self.aggregation,
            }
        )


def tokenized(model: nn.Module, probes: ProbeSet | TokenizedProbes) -> TokenizedProbes:
    """Tokenize `probes` with the model's own tokenizer unless they already are.

    Raises:
        SettingError: a probe is longer than the context of the model, after the cut to
            `max_tokens`.
    """
    if not isinstance(probes, TokenizedProbes):
        probes = probes.tokenize(tokenizer_of(model))
    most = context_of(model)
    # The width alone in the good case: reading lengths off a GPU would wait for it.
    if most is not None and probes.input_ids.shape[1] > most:
        index = int(probes.lengths.argmax())
        raise SettingError(
            f"probes {probes.name}: {index}: expected at most {most} tokens, the context of the "
            f"model, got {int(probes.lengths[index])}"
        )
    return probes


def context_of(model: nn.Module) -> int | None:
    """Most tokens of a sequence; None where the model sets no bound."""
    config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
    return getattr(config, "max_position_embeddings", None)


def compute_base_activation(
    model: nn.Module, probes: ProbeSet | TokenizedProbes, spec: DeltaSpec | None = None
) -> Tensor:
    """Return v(B): the pooled hidden states of the base model.

    Args:
        model: causal language model.
        probes: p texts.
        spec: what to read; the default DeltaSpec where None.

    Returns:
        [hidden] float32, or [p, layers, hidden] for aggregation `per_probe`.
    """
    spec = spec or DeltaSpec()
    tokens = tokenized(model, probes)
    with torch.no_grad(), short_attention(model, tokens.input_ids.shape[1]):
        pooled = _pooled(model, tokens, spec, n=1, copies=1)
    return _aggregate(pooled, spec)[0]


def compute_delta(
    model: nn.Module,
    weights: LoRAWeights,
    probes: ProbeSet | TokenizedProbes,
    spec: DeltaSpec | None = None,
    base_activation: Tensor | None = None,
    checkpoint: bool = False,
) -> Tensor:
    """Return v(B + adapter) - v(B) of n adapters; differentiable in the factors.

    Runs the frozen base on n * p sequences at once, but the layers below the first adapted one on
    p; without gradient in slices of `TOKENS_PER_FORWARD` tokens.

    Args:
        model: the frozen base, on the device of `weights`.
        weights: n adapters.
        probes: p texts.
        spec: what to read; the default DeltaSpec where None.
        base_activation: `compute_base_activation` of the same arguments, to save its forward.
        checkpoint: keep only what enters each layer; see `FunctionalLoRA.applied`.

    Returns:
        [n, hidden] float32 (or [n, layers * hidden]), or [n, p, layers, hidden] for
        aggregation `per_probe`.

    Raises:
        SettingError: a base activation of another shape.
    """
    spec = spec or DeltaSpec()
    tokens = tokenized(model, probes)
    if base_activation is None:
        base_activation = compute_base_activation(model, tokens, spec)
    lora = FunctionalLoRA(model, weights.spec)
    in_one = weights.n
    if not torch.is_grad_enabled():
        in_one = max(1, TOKENS_PER_FORWARD // tokens.input_ids.numel())
    activations = []
    for start in range(0, weights.n, in_one):
        part = weights.select(slice(start, start + in_one))
        p, t = tokens.input_ids.shape
        attention = partial(short_attention, model, t)
        with (
            lora.applied(part, checkpoint=checkpoint, around=attention),
            prefix_run_once(model, weights.spec, part.n, p) as once,
        ):
            copies = 1 if once else part.n
            activations.append(_aggregate(_pooled(model, tokens, spec, part.n, copies), spec))
    adapted = torch.cat(activations)
    expected, got = tuple(adapted.shape[1:]), tuple(base_activation.shape)
    if expected != got:
        raise SettingError(f"base_activation: shape: expected {expected}, got {got}")
    return adapted - base_activation.to(adapted.device)


def check_layers(model: nn.Module, spec: DeltaSpec) -> None:
    """Raise SettingError unless the model has every layer of the spec."""
    most = model.config.get_text_config().num_hidden_layers  # type: ignore[union-attr, operator]
    if any(not -most - 1 <= layer <= most for layer in spec.layers):
        raise SettingError(
            f"layers: expected indices from {-most - 1} to {most}, got {list(spec.layers)}"
        )


def _pooled(
    model: nn.Module, probes: TokenizedProbes, spec: DeltaSpec, n: int, copies: int
) -> Tensor:
    """Hidden states pooled over tokens, [n, p, layers, hidden] float32.

    The model is given `copies` of the probes: n, or one where it makes them itself.
    """
    device = device_of(model)
    check_layers(model, spec)
    p, t = probes.input_ids.shape
    input_ids = probes.input_ids.to(device).repeat(copies, 1)
    last_only = spec.layers == (-1,)
    body = decoder_body(model)
    output = body(input_ids=input_ids, use_cache=False, output_hidden_states=not last_only)
    if last_only:
        states = [output.last_hidden_state]
    else:
        states = [output.hidden_states[layer] for layer in spec.layers]
    lengths = probes.lengths.to(device).repeat(n)
    pooled = []
    for state in states:
        if len(state) != n * p:  # below the first adapted layer
            state = state.repeat(n, 1, 1)
        if spec.pooling == "last_token":
            rows = torch.arange(n * p, device=device)
            pooled.append(state[rows, lengths - 1].float())
        else:
            real = (torch.arange(t, device=device) < lengths[:, None])[..., None]
            pooled.append((state.float() * real).sum(1) / lengths[:, None])
    return torch.stack(pooled, dim=1).view(n, p, len(states), -1)


def _aggregate(pooled: Tensor, spec: DeltaSpec) -> Tensor:
    """Mean over probes with layers concatenated, or everything kept."""
    if spec.aggregation == "per_probe":
        return pooled
    return pooled.mean(1).flatten(1)
