"""Which tokenizer belongs to a loaded model, so that probes need no second argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from llgbm.deltas.errors import ModelError

_TOKENIZERS: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


def register_tokenizer(model: nn.Module, tokenizer: Any) -> None:
    """Remember `tokenizer` as the one of `model`, for as long as the model lives."""
    _TOKENIZERS[model] = tokenizer


def tokenizer_of(model: nn.Module) -> Any:
    """Return the tokenizer registered for `model`.

    Raises:
        ModelError: none was; models from `load_base_model` always have one.
    """
    try:
        return _TOKENIZERS[model]
    except KeyError:
        raise ModelError(
            "tokenizer: expected a model from load_base_model or a call of "
            "register_tokenizer(model, tokenizer) first, got an unknown model"
        ) from None


def has_tokenizer(model: nn.Module) -> bool:
    """Whether a tokenizer is registered for `model`."""
    return model in _TOKENIZERS


def cut_left(ids: Sequence[int], max_tokens: int, tokenizer: Any) -> tuple[int, ...]:
    """Return the last tokens, at most `max_tokens`; a token that opens texts (BOS) stays first."""
    opening = tuple(ids[:1]) if ids[0] == getattr(tokenizer, "bos_token_id", None) else ()
    surplus = max(0, len(ids) - max_tokens)
    return (*opening, *ids[len(opening) + surplus :])
