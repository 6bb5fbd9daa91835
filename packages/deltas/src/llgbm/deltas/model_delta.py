"""Deltas of fully fine-tuned models (seed 001, phase 1.2, mode B)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.delta import DeltaSpec, compute_base_activation, tokenized
from llgbm.deltas.errors import ModelError, mismatch
from llgbm.deltas.probes import ProbeSet, TokenizedProbes
from llgbm.deltas.spec import device_of
from llgbm.deltas.tokenizers import has_tokenizer, tokenizer_of


def compute_model_delta(
    base: nn.Module,
    tuned: nn.Module,
    probes: ProbeSet | TokenizedProbes,
    spec: DeltaSpec | None = None,
    base_activation: Tensor | None = None,
) -> Tensor:
    """Return v(tuned) - v(base), shaped as the delta of one adapter.

    Args:
        base: the model that `tuned` was made from, with its tokenizer.
        tuned: of the same architecture, sizes, dtype, device and attention implementation; with
            the same tokenizer or none of its own. Shares no memory with the base.
        probes: p texts.
        spec: what to read; the default DeltaSpec where None.
        base_activation: `compute_base_activation` of the same arguments, to save its forward.

    Returns:
        [1, hidden] float32 (or [1, layers * hidden]), or [1, p, layers, hidden] for aggregation
        `per_probe`; without gradient.

    Raises:
        ModelError: models that cannot be compared, or a delta with NaN or Inf.
    """
    spec = spec or DeltaSpec()
    tokens = tokenized(base, probes)
    check_comparable(base, tuned)
    if base_activation is None:
        base_activation = compute_base_activation(base, tokens, spec)
    activation = compute_base_activation(tuned, tokens, spec)
    delta = (activation - base_activation.to(activation.device))[None]
    bad = int((~torch.isfinite(delta)).sum())
    if bad:
        raise ModelError(mismatch(name_of(tuned), "delta", "finite values", f"{bad} NaN or Inf"))
    return delta


def check_comparable(base: nn.Module, tuned: nn.Module) -> None:
    """Raise ModelError unless the difference of two models' hidden states means something.

    Another dtype, device or attention implementation would add its rounding to the delta.
    """
    where = name_of(tuned)
    mine: Any = base.config.get_text_config()  # type: ignore[union-attr, operator]
    other: Any = tuned.config.get_text_config()  # type: ignore[union-attr, operator]
    for key in ("model_type", "hidden_size", "num_hidden_layers", "vocab_size"):
        expected, got = getattr(mine, key, None), getattr(other, key, None)
        if expected != got:
            raise ModelError(mismatch(where, key, f"{expected} as in the base", got))
    _check_parameters(where, base, tuned)
    for key, expected, got in (
        ("dtype", next(base.parameters()).dtype, next(tuned.parameters()).dtype),
        ("device", device_of(base), device_of(tuned)),
        ("attention", mine._attn_implementation, other._attn_implementation),
    ):
        if expected != got:
            raise ModelError(mismatch(where, key, f"{expected} as in the base", got))
    if has_tokenizer(tuned):
        check_vocabulary(where, tokenizer_of(base), tokenizer_of(tuned))


def check_vocabulary(where: object, base: Any, tuned: Any) -> None:
    """Raise ModelError unless two tokenizers give every token the same id."""
    mine, other = base.get_vocab(), tuned.get_vocab()
    differing = sorted(t for t in mine.keys() | other.keys() if mine.get(t) != other.get(t))
    if differing:
        expected = f"the base's {len(mine)} tokens"
        got = f"{len(other)}, of which {len(differing)} differ, such as {differing[0]!r}"
        raise ModelError(mismatch(str(where), "tokenizer", expected, got))


def name_of(model: nn.Module) -> str:
    """Name or folder that a model was loaded from."""
    return str(getattr(model, "name_or_path", "") or "tuned model")


def _check_parameters(where: str, base: nn.Module, tuned: nn.Module) -> None:
    mine = {name: tuple(value.shape) for name, value in base.named_parameters()}
    other = {name: tuple(value.shape) for name, value in tuned.named_parameters()}
    for name in sorted(mine.keys() | other.keys()):
        expected, got = mine.get(name, "nothing"), other.get(name, "nothing")
        if expected != got:
            raise ModelError(mismatch(where, name, f"shape {expected} as in the base", got))
