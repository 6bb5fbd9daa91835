"""Packing: several short token trees share one row of fixed length, for many adapters at once.

A tree is a trunk (a question) with branches (its answers). A branch sees its trunk and itself,
never its siblings or its neighbours in the row, so one forward of the trunk serves all branches.
Rows are adapter-major: adapter i owns `rows_per_adapter[i]` consecutive rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenTree:
    """A trunk of token ids and the branches that continue it."""

    trunk: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.trunk:
            raise ValueError("TokenTree: trunk: expected at least one token, got none")

    def __len__(self) -> int:
        return len(self.trunk) + sum(map(len, self.branches))


@dataclass(frozen=True)
class PackedBatch:
    """Rows of packed trees, and where each branch's tokens are predicted from.

    Attributes:
        input_ids: [rows, t] int64.
        position_ids: [rows, t] int64, counted within each tree; a branch continues its trunk.
        attention_mask: [rows, 1, t, t] bool, True where the query may look.
        rows_per_adapter: rows of each adapter, summing to rows.
        source: [s] int64, index into the flattened rows * t of the token that predicts.
        target: [s] int64, the token id to be predicted there.
        branch: [s] int64, number of the branch, counted over all trees in input order.
        branches: number of branches.
        tokens: real (unpadded) tokens.
    """

    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor
    rows_per_adapter: tuple[int, ...]
    source: Tensor
    target: Tensor
    branch: Tensor
    branches: int
    tokens: int

    @property
    def padding_share(self) -> float:
        """Share of the row tokens that is padding, 0 to 1."""
        return 1.0 - self.tokens / self.input_ids.numel()

    def repeat(self, n: int) -> PackedBatch:
        """Return the same rows for each of n adapters, adapter-major.

        Raises:
            ValueError: the batch already belongs to several adapters.
        """
        if len(self.rows_per_adapter) != 1:
            raise ValueError("PackedBatch.repeat: expected rows of one adapter")
        size = self.input_ids.numel()
        offsets = torch.arange(n)[:, None]
        return PackedBatch(
            self.input_ids.repeat(n, 1),
            self.position_ids.repeat(n, 1),
            self.attention_mask.repeat(n, 1, 1, 1),
            self.rows_per_adapter * n,
            (self.source + offsets * size).reshape(-1),
            self.target.repeat(n),
            (self.branch + offsets * self.branches).reshape(-1),
            self.branches * n,
            self.tokens * n,
        )

    def to(self, device: torch.device | str) -> PackedBatch:
        """Move the tensors to `device`."""
        return PackedBatch(
            self.input_ids.to(device),
            self.position_ids.to(device),
            self.attention_mask.to(device),
            self.rows_per_adapter,
            self.source.to(device),
            self.target.to(device),
            self.branch.to(device),
            self.branches,
            self.tokens,
        )


def pack(
    trees: Sequence[Sequence[TokenTree]], pad_token_id: int = 0, row_tokens: int | None = None
) -> PackedBatch:
    """Pack the trees of each adapter into rows by first fit, longest first.

    Args:
        trees: per adapter, its trees.
        pad_token_id: id that fills the rest of a row; nothing real attends to it.
        row_tokens: length of a row; the cheapest one where None.

    Raises:
        ValueError: no trees, or a tree longer than `row_tokens`.
    """
    lengths = [[len(tree) for tree in group] for group in trees]
    if not any(lengths):
        raise ValueError("pack: expected at least one tree, got none")
    longest = max(max(group, default=0) for group in lengths)
    if row_tokens is None:
        row_tokens = _cheapest_row(lengths, longest)
    if longest > row_tokens:
        raise ValueError(f"pack: expected trees of at most {row_tokens} tokens, got {longest}")

    placements: list[list[tuple[int, int]]] = []
    rows_per_adapter: list[int] = []
    for group in lengths:
        placement, used = _first_fit(group, row_tokens)
        first_row = sum(rows_per_adapter)
        placements.append([(row + first_row, start) for row, start in placement])
        rows_per_adapter.append(used)
    return _fill(trees, placements, rows_per_adapter, row_tokens, pad_token_id)


def _first_fit(lengths: Sequence[int], row_tokens: int) -> tuple[list[tuple[int, int]], int]:
    """Return (row, start) of each tree in input order, and the number of rows used."""
    filled: list[int] = []
    placement = [(0, 0)] * len(lengths)
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        room = row_tokens - lengths[index]
        row = next((row for row, used in enumerate(filled) if used <= room), len(filled))
        if row == len(filled):
            filled.append(0)
        placement[index] = (row, filled[row])
        filled[row] += lengths[index]
    return placement, len(filled)


def _cheapest_row(lengths: Sequence[Sequence[int]], longest: int) -> int:
    """Row length with the least work: linears grow with tokens, attention with their square."""
    # Attention over a row of t tokens costs about t / 4096 of the linears of a small model.
    candidates = {longest} | {t for t in range(64, 513, 32) if t > longest}

    def work(row_tokens: int) -> float:
        rows = sum(_first_fit(group, row_tokens)[1] for group in lengths)
        return rows * row_tokens * (1 + row_tokens / 4096)

    return min(sorted(candidates), key=work)


def _fill(
    trees: Sequence[Sequence[TokenTree]],
    placements: Sequence[Sequence[tuple[int, int]]],
    rows_per_adapter: Sequence[int],
    row_tokens: int,
    pad_token_id: int,
) -> PackedBatch:
    """Write ids, positions, mask and prediction sites of every tree into its place."""
    rows = sum(rows_per_adapter)
    input_ids = torch.full((rows, row_tokens), pad_token_id, dtype=torch.long)
    position_ids = torch.zeros(rows, row_tokens, dtype=torch.long)
    # Padding looks at itself alone: a row with nothing to look at would give NaN.
    mask = torch.eye(row_tokens, dtype=torch.bool).repeat(rows, 1, 1)
    source: list[int] = []
    target: list[int] = []
    branch_of: list[int] = []
    branches = tokens = 0
    for group, places in zip(trees, placements, strict=True):
        for tree, (row, start) in zip(group, places, strict=True):
            trunk = len(tree.trunk)
            ids = [*tree.trunk, *(token for branch in tree.branches for token in branch)]
            input_ids[row, start : start + len(ids)] = torch.tensor(ids)
            position_ids[row, start : start + trunk] = torch.arange(trunk)
            end = start + trunk
            mask[row, start:end, start:end] = torch.ones(trunk, trunk, dtype=torch.bool).tril()
            for branch in tree.branches:
                size = len(branch)
                position_ids[row, end : end + size] = torch.arange(trunk, trunk + size)
                mask[row, end : end + size, start : start + trunk] = True
                mask[row, end : end + size, end : end + size] = torch.ones(
                    size, size, dtype=torch.bool
                ).tril()
                before = [start + trunk - 1, *range(end, end + size - 1)]
                source += [row * row_tokens + position for position in before[:size]]
                target += branch
                branch_of += [branches] * size
                branches += 1
                end += size
            tokens += len(ids)
    return PackedBatch(
        input_ids,
        position_ids,
        mask[:, None],
        tuple(rows_per_adapter),
        torch.tensor(source, dtype=torch.long),
        torch.tensor(target, dtype=torch.long),
        torch.tensor(branch_of, dtype=torch.long),
        branches,
        tokens,
    )
