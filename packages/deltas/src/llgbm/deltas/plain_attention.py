"""Attention of few tokens by plain products that keeps only queries, keys and values."""

from __future__ import annotations

from functools import cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from llgbm.deltas.errors import ModelError

NAME = "llgbm_plain"


@cache
def register_plain_attention() -> str:
    """Make `NAME` an attention implementation of transformers; returns it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(NAME, plain_attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    return NAME


def plain_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """softmax(scaling q k^T + mask) v, as transformers calls an attention implementation.

    Args:
        module: the attention layer; not read.
        query: [b, heads, t, d].
        key, value: [b, key heads, s, d]; heads a multiple of key heads.
        attention_mask: additive, broadcastable to [b, heads, t, s], or None.
        scaling: of the scores.
        dropout: has to be 0: the backward computes the probabilities again.
        kwargs: what transformers hands to every implementation; not read.

    Returns:
        ([b, t, heads, d], None).

    Raises:
        ModelError: `dropout` is not 0.
    """
    if dropout:
        raise ModelError(f"dropout: expected 0 in attention, got {dropout:g}")
    output = cast(
        Tensor,
        _PlainAttention.apply(query, key, value, attention_mask, scaling),
    )
    return output.transpose(1, 2).contiguous(), None


class _PlainAttention(torch.autograd.Function):
    """Query heads that share a key head are rows of one product.

    So keys and values are not copied, and their gradients need no sum over heads.
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, mask)
        ctx.scaling = scaling
        return torch.matmul(_probabilities(query, key, mask, scaling), value).view_as(query)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, mask = ctx.saved_tensors
        probabilities = _probabilities(query, key, mask, ctx.scaling)
        grad = _fold(grad, key)
        grad_scores = torch.ops.aten._softmax_backward_data(
            torch.matmul(grad, value.mT), probabilities, -1, probabilities.dtype
        )
        grad_scores *= ctx.scaling
        return (
            torch.matmul(grad_scores, key).view_as(query),
            torch.matmul(grad_scores.mT, _fold(query, key)),
            torch.matmul(probabilities.mT, grad),
            None,
            None,
        )


def _fold(query: Tensor, key: Tensor) -> Tensor:
    """[b, heads, t, d] -> [b, key heads, heads / key heads * t, d]."""
    b, _, _, d = query.shape
    return query.reshape(b, key.shape[1], -1, d)


def _probabilities(query: Tensor, key: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    """[b, key heads, heads / key heads * t, s]; the softmax computes in float32."""
    scores = torch.matmul(_fold(query, key), key.mT)
    scores *= scaling
    if mask is not None:
        b, heads, t, _ = query.shape
        scores.view(b, heads, t, key.shape[2]).add_(mask)
    return torch.softmax(scores, dim=-1)
