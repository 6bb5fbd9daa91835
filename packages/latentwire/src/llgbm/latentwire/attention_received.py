"""What a text's positions are looked at for, while the reader writes the text again.

Keys and values that no query of a repetition looks at are of no use to one who wants to know what
the text said, whatever is asked (KVzip, arXiv 2505.23416). The reader itself is the judge, without
training, and every head of every layer judges for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.latentwire.errors import PromptError
from llgbm.latentwire.own_attention import attends_by, check_plain
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import decode

NAME = "llgbm_received"
# What stands between a text and its repetition.
BETWEEN = "\n\nRepeat the text above:\n"
# Queries at once: bounds the memory that attention weights take.
BLOCK = 256


@dataclass
class _Collector:
    """Largest weights of one forward.

    Attributes:
        asking: [b, t] bool, whose queries count.
        found: layer -> [b, kv_heads, t] float32.
    """

    asking: Tensor
    found: dict[int, Tensor] = field(default_factory=dict)


_COLLECTOR: ContextVar[_Collector] = ContextVar("collector")


@torch.no_grad()
def attention_received(reader: Reader, texts: Sequence[str]) -> Tensor:
    """Largest attention weight that each position gets from the same text written again.

    Args:
        reader: whose attention it is, as it stands: adapters that are applied take part.
        texts: b of them.

    Returns:
        [b, t, layers, kv_heads] float32 in [0, 1], of the texts' own tokens (the tokenizer's
        opening is left out), zero on padding. Query heads that share a key head count together.

    Raises:
        PromptError: a text without tokens, or one that does not fit in twice.
        ModelError: a reader whose attention is more than a softmax of scores.
    """
    rows = [reader.tokens(text) for text in texts]
    between = reader.tokens(BETWEEN)
    begin, counts = len(reader.opening), [len(row) for row in rows]
    room = (reader.limit - begin - len(between)) // 2
    if min(counts) < 1 or max(counts) > room:
        raise PromptError(
            f"text: expected 1 to {room} tokens, which {reader.name} can read twice, "
            f"got {min(counts) if min(counts) < 1 else max(counts)}"
        )
    longest = begin + 2 * max(counts) + len(between)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask, asking = (torch.zeros(len(rows), longest, dtype=torch.bool) for _ in range(2))
    for place, row in enumerate(rows):
        whole = [*reader.opening, *row, *between, *row]
        ids[place, : len(whole)] = torch.tensor(whole)
        mask[place, : len(whole)] = True
        # A token is looked for by the one before it; what follows the last is nobody's business.
        asking[place, len(whole) - len(row) - 1 : len(whole) - 1] = True
    ids, mask, asking = (each.to(reader.device) for each in (ids, mask, asking))
    collector = _Collector(asking)
    token = _COLLECTOR.set(collector)
    try:
        with attends_by(reader, NAME, _attention):
            decode(reader, reader.embed(ids), mask)
    finally:
        _COLLECTOR.reset(token)
    found = torch.stack([collector.found[layer] for layer in range(reader.layers)], dim=1)
    found = found[..., begin : begin + max(counts)].permute(0, 3, 1, 2)
    own = torch.arange(max(counts), device=found.device)[None] < torch.tensor(
        counts, device=found.device
    ).unsqueeze(1)
    return found * own[..., None, None]


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """softmax(scaling q k^T + mask) v, block by block of queries; see `plain_attention`."""
    check_plain(dropout, softcap, s_aux)
    collector = _COLLECTOR.get()
    b, heads, t, d = query.shape
    kv_heads, positions = key.shape[1:3]
    grouped = query.view(b, kv_heads, heads // kv_heads, t, d)
    largest = query.new_zeros(b, kv_heads, positions, dtype=torch.float32)
    outputs = []
    for start in range(0, t, BLOCK):
        part = grouped[:, :, :, start : start + BLOCK]
        scores = (part @ key[:, :, None].mT).float() * scaling
        if attention_mask is not None:
            scores = scores + attention_mask[:, :, None, start : start + BLOCK].float()
        weights = scores.softmax(-1)
        outputs.append(weights.to(value) @ value[:, :, None])
        asking = collector.asking[:, None, None, start : start + BLOCK, None]
        largest = largest.maximum((weights * asking).amax((2, 3)))
    collector.found[int(module.layer_idx)] = largest  # type: ignore[arg-type]
    output = torch.cat(outputs, dim=3).view(b, heads, t, d)
    return output.transpose(1, 2).contiguous(), None
