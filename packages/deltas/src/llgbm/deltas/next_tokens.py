"""From last hidden states to next tokens: a model's head, and what it does after it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


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
