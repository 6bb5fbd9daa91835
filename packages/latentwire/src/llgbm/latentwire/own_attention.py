"""Attention of one's own in a reader, for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from llgbm.deltas.errors import ModelError
from llgbm.latentwire.reader import Reader

# As transformers calls an attention implementation.
Attention = Callable[..., tuple[Tensor, None]]
_REGISTERED: dict[str, Attention] = {}


@contextmanager
def attends_by(reader: Reader, name: str, attention: Attention) -> Iterator[None]:
    """Within the block every layer of the reader attends by `attention`.

    Masks are additive, [b, 1, t, s], as transformers makes them for plain products.

    Args:
        reader: whose config is set back in any case.
        name: always the same one for the same function.
        attention: called as transformers calls an implementation.
    """
    if name not in _REGISTERED:
        from transformers import AttentionInterface
        from transformers.masking_utils import AttentionMaskInterface, eager_mask

        AttentionInterface.register(name, attention)
        AttentionMaskInterface.register(name, eager_mask)
        _REGISTERED[name] = attention
    config: Any = reader.config
    before = config._attn_implementation
    config._attn_implementation = name
    try:
        yield
    finally:
        config._attn_implementation = before


def check_plain(dropout: float, softcap: float | None, s_aux: Tensor | None) -> None:
    """Refuse what is more than a softmax of scores.

    Raises:
        ModelError: dropout, a soft cap of scores (Gemma 2) or sinks.
    """
    if dropout or softcap is not None or s_aux is not None:
        raise ModelError(
            "heads: expected a reader whose attention is a softmax of scores, got dropout "
            f"{dropout:g}, soft cap {softcap}, {'no ' if s_aux is None else ''}sinks"
        )
