"""One greedy answer, with or without an adapter."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from llgbm.deltas.functional import FunctionalLoRA
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights


@torch.no_grad()
def greedy_answer(
    model: Any,
    tokenizer: Any,
    query: str,
    weights: LoRAWeights | None = None,
    max_new_tokens: int = 24,
) -> str:
    """Continue `query` greedily up to the end of its line.

    Args:
        model: frozen base.
        tokenizer: of the base.
        query: text.
        weights: one adapter (n = 1); the base alone where None.
        max_new_tokens: at most so many.
    """
    device = device_of(model)
    inputs = tokenizer(query, return_tensors="pt").to(device)
    running: Any = nullcontext()
    if weights is not None:
        running = FunctionalLoRA(model, weights.spec).applied(weights.to(device))
    with running:
        output = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    text = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    lines = text.strip().splitlines()
    return lines[0].strip() if lines else ""
