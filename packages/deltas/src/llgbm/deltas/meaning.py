"""Delta meaning: what adapters do to fixed texts, comparable across bases (seed 001, phase 7).

A delta lives in the hidden states of its base, whose axes mean nothing in another base: neither a
projection to one width nor anything else that reads hidden states alone changes that. The
likelihood of a text is the same quantity in every language model. So here an adapter is
represented by how it changes the log-likelihood of fixed continuations after each probe, divided by
their bytes: a byte is a byte under every tokenizer, a token is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.delta import TOKENS_PER_FORWARD, context_of
from llgbm.deltas.errors import SettingError
from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.log_likelihood import branch_log_likelihoods
from llgbm.deltas.packing import PackedBatch, TokenTree, pack
from llgbm.deltas.probes import ProbeSet
from llgbm.deltas.tokenizers import tokenizer_of
from llgbm.deltas.weights import LoRAWeights

# Short answers of many kinds: verdicts, numbers, code, prose, refusals, options.
CONTINUATIONS = (
    " Yes",
    " No",
    " 42",
    " The answer is",
    " I don't know",
    " A",
    " B",
    " Let's think step by step",
    " def solve(x):",
    " return",
    " because",
    " Once upon a time",
)


def compute_meaning(
    model: nn.Module,
    weights: LoRAWeights,
    probes: ProbeSet,
    continuations: Sequence[str] = CONTINUATIONS,
    base_meaning: Tensor | None = None,
) -> Tensor:
    """Return the change in log-likelihood per byte of each continuation after each probe.

    Runs the base on all probes and continuations of many adapters in one forward, each probe once
    for all its continuations; without gradient in slices of `TOKENS_PER_FORWARD` tokens.

    Args:
        model: the frozen base with its tokenizer, on the device of `weights`.
        weights: n adapters.
        probes: p texts, none of which may be cut: tokenizers would cut it at different places.
        continuations: c texts, each opening with the space that joins it to a probe.
        base_meaning: `compute_base_meaning` of the same arguments, to save its forward.

    Returns:
        [n, p * c] float32, probe-major, nats per byte; differentiable in the factors. Columns
        mean the same for every base model.

    Raises:
        SettingError: no continuations, one without bytes or tokens, a probe longer than
            `max_tokens`, or a probe with a continuation longer than the model's context.
    """
    packed, sizes = _packed(model, probes, continuations)
    if base_meaning is None:
        base_meaning = _per_byte(model, packed, sizes, None)
    in_one = weights.n
    if not torch.is_grad_enabled():
        in_one = max(1, TOKENS_PER_FORWARD // packed.input_ids.numel())
    parts = [
        _per_byte(model, packed, sizes, weights.select(slice(start, start + in_one)))
        for start in range(0, weights.n, in_one)
    ]
    return torch.cat(parts) - base_meaning


def compute_base_meaning(
    model: nn.Module, probes: ProbeSet, continuations: Sequence[str] = CONTINUATIONS
) -> Tensor:
    """Return the base's own log-likelihoods per byte, [1, p * c] float32; see `compute_meaning`."""
    packed, sizes = _packed(model, probes, continuations)
    return _per_byte(model, packed, sizes, None)


def _per_byte(
    model: nn.Module, packed: PackedBatch, sizes: Tensor, weights: LoRAWeights | None
) -> Tensor:
    """Log-likelihoods per byte of the base (n = 1) or of n adapters, [n, p * c]."""
    if weights is None:
        with torch.no_grad():
            sums = branch_log_likelihoods(model, packed)
        return sums.view(1, -1) / sizes.to(sums.device)
    lora = FunctionalLoRA(model, weights.spec)
    with lora.applied(weights):
        sums = branch_log_likelihoods(model, packed.repeat(weights.n))
    return sums.view(weights.n, -1) / sizes.to(sums.device)


def _packed(
    model: nn.Module, probes: ProbeSet, continuations: Sequence[str]
) -> tuple[PackedBatch, Tensor]:
    """Every probe with its continuations, and the bytes of each branch, [p * c] float32."""
    if not continuations:
        raise SettingError("continuations: expected at least one, got none")
    tokenizer: Any = tokenizer_of(model)
    branches = []
    for index, text in enumerate(continuations):
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else ()
        if not ids:
            raise SettingError(f"continuations: {index}: expected at least one token, got {text!r}")
        branches.append(ids)
    longest, context = max(map(len, branches)), context_of(model)
    trees = []
    for index, text in enumerate(probes.texts):
        trunk = tuple(tokenizer(text)["input_ids"])
        if len(trunk) > probes.max_tokens:
            raise SettingError(
                f"probes: {index}: expected at most {probes.max_tokens} tokens, since tokenizers "
                f"would cut it at different places, got {len(trunk)}"
            )
        if context is not None and len(trunk) + longest > context:
            raise SettingError(
                f"probes: {index}: expected at most {context - longest} tokens before a "
                f"continuation in the context of the model, got {len(trunk)}"
            )
        trees.append(TokenTree(trunk, tuple(branches)))
    sizes = torch.tensor([float(len(text.encode())) for text in continuations])
    return pack([trees]), sizes.repeat(len(probes))
