"""Cells that carry a token's two scales: the last two rows, then the last two columns.

Along a row the two scales alternate. DnD reads them back in two halves, each decoded by itself
and then averaged: the odd rows and the even rows, counted from the bottom.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llgbm.generators.dnd.layout import SCALE_CELLS


def write_scales(content: Tensor, scales: Tensor) -> Tensor:
    """Put scales around content.

    Args:
        content: [..., r, width], width even.
        scales: [..., 2].

    Returns:
        [..., r + 2, width + 2].
    """
    r, width = content.shape[-2:]
    pairs = (width + SCALE_CELLS) // 2
    rows = scales.repeat_interleave(pairs, dim=-1)
    # [s0 s0 .. s1 s1 ..] -> [s0 s1 s0 s1 ..]
    rows = rows.unflatten(-1, (2, pairs)).mT.flatten(-2)
    columns = scales[..., None, :].expand(*scales.shape[:-1], r, 2)
    bottom = rows[..., None, :].expand(*rows.shape[:-1], SCALE_CELLS, rows.shape[-1])
    return torch.cat([torch.cat([content, columns], dim=-1), bottom], dim=-2)


def read_scales(tokens: Tensor) -> Tensor:
    """Average the copies of the scales.

    Rows and columns count half each, as in DnD, though there are more copies along the rows.

    Args:
        tokens: [..., H, W].

    Returns:
        [..., 2 halves, 2 scales]: of even and of odd rows counted from the bottom two on.
    """
    height = tokens.shape[-2]
    along_rows = tokens[..., -SCALE_CELLS:, :].unflatten(-1, (-1, 2)).mean(-2)
    columns = tokens[..., -SCALE_CELLS:]
    # Half 0 holds the last row but one and every second row above it, half 1 the last row.
    halves = [columns[..., (height - half) % 2 :: 2, :].mean(-2) for half in (2, 1)]
    return (along_rows + torch.stack(halves, dim=-2)) / 2
