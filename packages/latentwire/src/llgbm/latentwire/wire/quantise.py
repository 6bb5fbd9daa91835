"""Latents as whole numbers of 4, 6 or 8 bits, times fp16 scales.

Symmetric: the numbers run from -(2**(bits - 1) - 1) to the same above zero. Numbers that share a
scale are a slot's channels, or, with a block size, so many neighbouring channels of all slots.
Language models have a few channels that are far larger than others, in every slot; a scale for 8
channels keeps them apart, so that is the default. At 32 slots of width 256 it takes as many bytes
as a scale a slot.

The scale that spans a group is cut (never rounded up) to fp16, so the group's largest number is
always the largest there is: quantising what was dequantised changes no bit. Smaller scales, which
clip the group's ends, are tried too, and the one with the least squared error is taken: at 4 bits
that is nearly free precision.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from llgbm.latentwire.errors import ConfigError

INT_BITS = (8, 6, 4)
# Channels that share a scale, where nothing else is asked for.
BLOCK = 8
LARGEST_HALF = 65504.0
# Shares of the spanning scale; the whole comes first, so that it wins ties.
SHARES = tuple(1 - 0.05 * step for step in range(10))


def largest_code(bits: int) -> int:
    """Largest of the numbers: 127, 31 or 7."""
    return (1 << (bits - 1)) - 1


def scale_count(slots: int, width: int, block: int) -> int:
    """Number of scales of a row of latents."""
    return -(-width // block) if block else slots


def quantise(values: Tensor, bits: int, block: int = BLOCK) -> tuple[Tensor, Tensor]:
    """Round latents to whole numbers times scales.

    Args:
        values: [..., m, z] float32, finite; at most 65504 * (2**(bits - 1) - 1).
        bits: of a number; one of `INT_BITS`.
        block: channels that share a scale over all slots; 0 for a scale a slot.

    Returns:
        (codes [..., m, z] int8, scales [..., s] float16), s that of `scale_count`.

    Raises:
        ConfigError: other bits, or a negative block.
    """
    if bits not in INT_BITS or block < 0:
        raise ConfigError(
            f"quantise: expected bits of {INT_BITS} and no negative block, got {bits} and {block}"
        )
    top = largest_code(bits)
    groups = _grouped(values.float(), block)
    span = groups.abs().amax(-1) / top
    best = error = torch.empty(0)
    for share in SHARES:
        scale = _cut(span * share)
        spread = scale.float()[..., None]
        miss = (groups - _round(groups, spread, top) * spread).square().sum(-1)
        if share == 1:
            best, error = scale, miss
            continue
        better = miss < error
        best, error = torch.where(better, scale, best), torch.where(better, miss, error)
    codes = _round(groups, best.float()[..., None], top).to(torch.int8)
    return _ungrouped(codes, values.shape[-2], values.shape[-1], block), best


def dequantise(codes: Tensor, scales: Tensor, block: int = BLOCK) -> Tensor:
    """Latents [..., m, z] float32 of what `quantise` returned; exact, no rounding is left."""
    groups = _grouped(codes.float(), block) * scales.float()[..., None]
    return _ungrouped(groups, codes.shape[-2], codes.shape[-1], block)


def _round(groups: Tensor, scale: Tensor, top: int) -> Tensor:
    """Nearest whole numbers within bounds; 0 where the scale is 0."""
    return (groups / torch.where(scale > 0, scale, torch.inf)).round().clamp(-top, top)


def _cut(values: Tensor) -> Tensor:
    """Largest fp16 that is not above a number from 0 up."""
    half = values.clamp(max=LARGEST_HALF).half()
    below = (half.view(torch.int16) - 1).clamp(min=0).view(torch.float16)
    return torch.where(half.float() > values, below, half)


def _grouped(values: Tensor, block: int) -> Tensor:
    """[..., m, z] as [..., s, n]: numbers that share a scale side by side."""
    if not block:
        return values
    short = -values.shape[-1] % block
    blocks = pad(values, (0, short)).unflatten(-1, (-1, block))
    return blocks.transpose(-3, -2).flatten(-2)


def _ungrouped(groups: Tensor, slots: int, width: int, block: int) -> Tensor:
    """Inverse of `_grouped`."""
    if not block:
        return groups
    blocks = groups.unflatten(-1, (slots, block)).transpose(-3, -2)
    return blocks.flatten(-2)[..., :width]
