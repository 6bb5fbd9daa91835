"""Log-likelihoods of the branches of packed token trees."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from llgbm.deltas.next_tokens import next_token_logits
from llgbm.deltas.packing import PackedBatch
from llgbm.deltas.sliding_window import layer_masks
from llgbm.deltas.spec import device_of

# Scored positions that go through the head at once: bounds the logits in float32.
POSITIONS_PER_HEAD = 1024


def branch_log_likelihoods(model: nn.Module, packed: PackedBatch) -> Tensor:
    """Log-likelihood of each branch of a packed batch, [branches] float32.

    The decoder runs without its head, and the head on the scored positions alone.
    """
    device = device_of(model)
    batch = packed.to(device)
    body: Any = model.get_decoder()  # type: ignore[operator]
    hidden = body(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        attention_mask=layer_masks(model, batch),
        use_cache=False,
    ).last_hidden_state.flatten(0, 1)
    sums = torch.zeros(batch.branches, device=device)
    for start in range(0, len(batch.source), POSITIONS_PER_HEAD):
        part = slice(start, start + POSITIONS_PER_HEAD)
        logits = next_token_logits(model, hidden[batch.source[part]])
        chosen = logits.gather(1, batch.target[part, None])[:, 0]
        sums.index_add_(0, batch.branch[part], chosen - logits.logsumexp(1))
    return sums
