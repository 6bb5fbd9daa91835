"""Attention by plain products for short sequences on a CPU.

torch's flash attention on the CPU spends most of a short sequence's backward in overhead: at 40
tokens it is the largest part of a small model's step. Plain products cost a t x t matrix a head,
which is nothing there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from llgbm.deltas.plain_attention import NAME, register_plain_attention
from llgbm.deltas.spec import device_of

# Tokens up to which plain products were faster on two CPU cores, forward and backward; at 96 they
# no longer were. `llgbm-bench delta-forward --t T` shows every way with either.
SHORT = 64

# Models whose attention is softmax(scaling q k^T + mask) v and nothing else (no soft cap of the
# scores, no sinks). Others attend by their own plain products, which keep more for the backward.
PLAIN_MODELS = frozenset({"llama", "mistral", "qwen2", "qwen3"})


@contextmanager
def short_attention(model: nn.Module, tokens: int) -> Iterator[None]:
    """Within the block, a model on a CPU attends by plain products if sequences are short.

    Base and adapted model must both run within it, or the difference of two implementations
    would pass for a delta.

    Args:
        model: of transformers; left as it is where it does not attend by `sdpa`.
        tokens: of a sequence.
    """
    config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
    before = config._attn_implementation
    if not attends_shortly(model, tokens):
        yield
        return
    chosen = attention_of(model, tokens)
    if chosen == NAME:
        register_plain_attention()
    config._attn_implementation = chosen
    try:
        yield
    finally:
        config._attn_implementation = before


def attention_of(model: nn.Module, tokens: int) -> str:
    """Name of the implementation by which a model attends within `short_attention`."""
    config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
    if not attends_shortly(model, tokens):
        return str(config._attn_implementation)
    plain = config.model_type in PLAIN_MODELS and not model.training
    return NAME if plain else "eager"


def attends_shortly(model: nn.Module, tokens: int) -> bool:
    """Whether `short_attention` changes anything for sequences of so many tokens."""
    config: Any = model.config.get_text_config()  # type: ignore[union-attr, operator]
    on_cpu = device_of(model).type == "cpu"
    return on_cpu and tokens <= SHORT and config._attn_implementation == "sdpa"
