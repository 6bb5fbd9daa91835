"""From hidden states to next tokens, and which deltas they follow from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import SettingError


def require_next_tokens(spec: DeltaSpec) -> None:
    """Raise SettingError where next-token distributions do not follow from deltas of `spec`."""
    if -1 not in spec.layers or (spec.pooling, spec.aggregation) != ("last_token", "per_probe"):
        raise SettingError(
            "deltas: expected layer -1, pooling last_token and aggregation per_probe, from "
            f"which next tokens follow, got {spec.layers}, {spec.pooling}, {spec.aggregation}: "
            "compute a cache of those, or choose an objective with --objective.lambda-kl 0"
        )


def next_token_logits(model: nn.Module, states: Tensor) -> Tensor:
    """Run a model's head on last hidden states, with what the model does to logits after it.

    Args:
        model: causal language model.
        states: [..., hidden], after the final norm.

    Returns:
        [..., vocabulary] float32.
    """
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
    logits: Tensor = head(states.to(next(head.parameters()).dtype)).float()
    # Granite divides, Cohere multiplies, Gemma 2 bounds.
    logits = logits / (getattr(config, "logits_scaling", None) or 1)
    logits = logits * (getattr(config, "logit_scale", None) or 1)
    bound = getattr(config, "final_logit_softcapping", None)
    return logits if bound is None else bound * torch.tanh(logits / bound)
