"""What stands before the text that a reader reads: embeddings, or keys and values of a cache."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from llgbm.latentwire.reader import Reader


@dataclass(frozen=True)
class Prefix:
    """One prefix for every text of a batch.

    Exactly one of the two mechanisms holds slots; never both (anchor rule 11).

    Attributes:
        embeds: [b, m, h], read after the tokenizer's opening and before the ending.
        mask: [b, m] bool; real slots stand first.
        keys_values: a layer's keys and values, each [b, kv_heads, p, head_dim], which every
            token attends to; empty where slots are embeddings.
        cache_mask: [b, p] bool; real positions stand first. None where there is no cache.
        elsewhere: the way's own attention holds what stands at these p positions; a cache only
            counts them.
    """

    embeds: Tensor
    mask: Tensor
    keys_values: tuple[tuple[Tensor, Tensor], ...] = ()
    cache_mask: Tensor | None = None
    elsewhere: bool = False

    def __post_init__(self) -> None:
        if (bool(self.keys_values) or self.elsewhere) != (self.cache_mask is not None):
            raise ValueError(
                "Prefix: expected cache_mask with keys and values, here or elsewhere, alone"
            )
        if self.keys_values and self.elsewhere:
            raise ValueError("Prefix: expected keys and values here or elsewhere, got both")
        if self.cache_mask is not None and self.mask.any():
            raise ValueError("Prefix: expected embeddings or keys and values, got both")

    @property
    def rows(self) -> int:
        """Number of texts b."""
        return int(self.embeds.shape[0])


def from_embeddings(embeds: Tensor, mask: Tensor) -> Prefix:
    """Prefix of input embeddings [b, m, h] with mask [b, m]."""
    return Prefix(embeds, mask)


def from_keys_values(
    reader: Reader, keys_values: tuple[tuple[Tensor, Tensor], ...], mask: Tensor
) -> Prefix:
    """Prefix of a key and a value cache, checked against the reader (anchor rule 13).

    Raises:
        ValueError: another number of layers, heads or head width.
    """
    if len(keys_values) != reader.layers:
        raise ValueError(f"keys_values: expected {reader.layers} layers, got {len(keys_values)}")
    shape = (len(mask), reader.kv_heads, mask.shape[1], reader.head_dim)
    for layer, pair in enumerate(keys_values):
        for tensor in pair:
            if tuple(tensor.shape) != shape:
                raise ValueError(
                    f"keys_values: layer {layer}: expected {shape}, got {tuple(tensor.shape)}"
                )
    return replace(_without_embeddings(reader, mask), keys_values=keys_values, cache_mask=mask)


def from_elsewhere(reader: Reader, mask: Tensor) -> Prefix:
    """Prefix of positions [b, p] whose keys and values a way's own attention holds."""
    return replace(_without_embeddings(reader, mask), cache_mask=mask, elsewhere=True)


def empty_prefix(reader: Reader, rows: int) -> Prefix:
    """No slots at all: what is left of a prompt without its context."""
    return _without_embeddings(reader, torch.zeros(rows, 0, device=reader.device))


def _without_embeddings(reader: Reader, like: Tensor) -> Prefix:
    """No embeddings for as many texts, on the same device, as `like` [b, ...]."""
    return Prefix(
        torch.zeros(len(like), 0, reader.width, device=like.device),
        torch.zeros(len(like), 0, dtype=torch.bool, device=like.device),
    )


def replayed(reader: Reader, contexts: list[list[int]]) -> Prefix:
    """The contexts' own token embeddings as a prefix: must answer as text does (rule 20)."""
    rows = [reader.embed(torch.tensor(ids, device=reader.device)).float() for ids in contexts]
    counts = torch.tensor([len(ids) for ids in contexts], device=reader.device)
    mask = torch.arange(int(counts.max()), device=reader.device)[None, :] < counts[:, None]
    return Prefix(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), mask)
