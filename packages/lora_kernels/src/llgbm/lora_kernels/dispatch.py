"""Tiles of every kernel by a written rule, with an override; nothing is tried out at run time.

The rules, for a device of P multiprocessors:

- shrink owns whole rows: 64 of them where that gives every multiprocessor a program, else 32 or
  16, and fewer where the sums of all groups would not fit in registers. k is walked through in the
  longest steps that keep 32 entries a thread and whose stages fit in 60 KiB. With fewer
  programs than P, k is split and the parts are added up in order.
- expand owns one tile of 64 x 128 (fewer rows where adapters have fewer) and takes 32 ranks at
  once; 64 x 64 and 16 ranks in float32.
- outer owns up to 64 ranks x 128 columns (32 x 64 in float32) of one adapter and walks through its
  rows; with fewer programs than P, the rows are split and the parts added up in order.
- fused owns 128 x 128 (64 x 128 for few rows) with steps of 64 and three stages, or what the
  device's shared memory holds; 64 x 64 in float32, which has no tensor cores at full precision.

A device that is not known gives its own numbers, or 64 KiB and 64 multiprocessors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch

Kernel = Literal["shrink", "expand", "outer", "fused"]
KERNELS = ("shrink", "expand", "outer", "fused")
# Enough for every GPU that Triton compiles for, AMD's among them.
COMMON_SHARED_BYTES = 64 * 1024
MOST_SPLITS = 16
# Float32 sums that a thread keeps, and entries that it loads at once, each with its address, by
# bytes of an activation. Float32 products run on the cores that also hold the addresses, so there
# shrink takes 16 rows and no pipeline.
SUMS_A_THREAD = 24
ENTRIES_A_THREAD = {2: 32, 4: 16}
# Stages and steps of shrink in half precision, the longest first.
HALF_STEPS = ((3, 128), (3, 64), (4, 32), (3, 32), (2, 32), (2, 16))
# Ranks that expand and fused multiply at once.
RANKS_AT_ONCE = {2: 32, 4: 16}


@dataclass(frozen=True)
class Tiles:
    """Sizes of one launch.

    Args:
        block_m: rows of x.
        block_k: columns of x (of y in expand and fused's step of the sum).
        block_r: ranks.
        block_n: columns of y, in fused alone.
        num_warps: of a program.
        num_stages: of the software pipeline.
        splits: parts of the sum that other programs take.
    """

    block_m: int
    block_k: int
    block_r: int
    block_n: int = 0
    num_warps: int = 4
    num_stages: int = 1
    splits: int = 1


@dataclass(frozen=True)
class Device:
    """What the rules ask of a device.

    Attributes:
        multiprocessors: P.
        shared_bytes: shared memory that one program may take.
    """

    multiprocessors: int
    shared_bytes: int


# Of the process, not of a thread: the launches of a backward have a thread of their own.
_overrides: dict[str, Tiles] = {}


@contextmanager
def use_tiles(kernel: Kernel, tiles: Tiles) -> Iterator[None]:
    """Within the block, launches of `kernel` take `tiles`.

    Raises:
        ValueError: an unknown kernel, or sizes that are no powers of two.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel: expected one of {KERNELS}, got {kernel!r}")
    names = ["block_m", "block_k", "block_r", *(["block_n"] if kernel == "fused" else [])]
    wrong = [name for name in names if not _power_of_two(getattr(tiles, name, None), 16)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)}: expected powers of two from 16, got {tiles}")
    if not _power_of_two(tiles.num_warps, 1):
        raise ValueError(f"num_warps: expected a power of two, got {tiles.num_warps!r}")
    for name in ("num_stages", "splits"):
        number = getattr(tiles, name)
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"{name}: expected a whole number of at least 1, got {number!r}")
    before = _overrides.get(kernel)
    _overrides[kernel] = tiles
    try:
        yield
    finally:
        if before is None:
            del _overrides[kernel]
        else:
            _overrides[kernel] = before


def _power_of_two(number: object, least: int) -> bool:
    return isinstance(number, int) and number >= least and not number & (number - 1)


def overridden(kernel: Kernel) -> Tiles | None:
    """Tiles that `use_tiles` asks for."""
    return _overrides.get(kernel)


@cache
def describe_device(device: torch.device) -> Device:
    """Numbers of a GPU; of the CPU (the interpreter) one multiprocessor."""
    if device.type != "cuda":
        return Device(1, COMMON_SHARED_BYTES)
    found = torch.cuda.get_device_properties(device)
    return Device(
        getattr(found, "multi_processor_count", 64),
        getattr(found, "shared_memory_per_block_optin", COMMON_SHARED_BYTES),
    )


def shrink_tiles(
    device: Device, item: int, factor_item: int, n: int, longest: int, k: int, r: int, groups: int
) -> Tiles:
    """Tiles of shrink.

    Args:
        device: to run on.
        item: bytes of an activation.
        factor_item: bytes of an entry of a factor.
        n: adapters.
        longest: most rows of one.
        k: length of the sum.
        r: rank.
        groups: factors that share x.
    """
    block_r = rank_block(r)
    num_warps = 8 if groups * block_r >= 128 else 4
    threads = 32 * num_warps
    fitting = [] if item == 4 else [64, 32]
    fitting = [b for b in fitting if b * groups * block_r <= SUMS_A_THREAD * threads]
    block_m = next((b for b in fitting if n * _tiles(longest, b) >= device.multiprocessors), 16)
    steps = ((1, 64), (1, 32), (1, 16)) if item == 4 else HALF_STEPS
    for num_stages, block_k in steps:
        entries = block_k * (block_m + groups * block_r)
        stage_bytes = block_k * (block_m * item + groups * block_r * factor_item)
        fits = num_stages * stage_bytes <= COMMON_SHARED_BYTES - 4096
        if fits and entries <= ENTRIES_A_THREAD[item] * threads:
            break
    programs = n * _tiles(longest, block_m)
    # A split shorter than four steps does not pay for its part of the sum.
    splits = _splits(device, programs, _tiles(k, 4 * block_k))
    return Tiles(block_m, block_k, block_r, 0, num_warps, num_stages, splits)


def expand_tiles(item: int, longest: int, r: int) -> Tiles:
    """Tiles of expand, for adapters of at most `longest` rows and rank r."""
    block_m = 64 if longest > 32 else 32 if longest > 16 else 16
    block_k = 128 if item == 2 else 64
    return Tiles(block_m, block_k, min(rank_block(r), RANKS_AT_ONCE[item]), num_warps=4)


def outer_tiles(device: Device, item: int, n: int, longest: int, k: int, ranks: int) -> Tiles:
    """Tiles of outer, for gradients [n, ranks, k] of adapters with at most `longest` rows."""
    block_r = min(64 if item == 2 else 32, rank_block(ranks))
    block_k = 128 if item == 2 else 64
    block_m = 16 if item == 4 else 64 if longest > 32 else 32
    programs = n * _tiles(ranks, block_r) * _tiles(k, block_k)
    splits = _splits(device, programs, _tiles(longest, 2 * block_m))
    return Tiles(block_m, block_k, block_r, num_stages=3 if item == 2 else 2, splits=splits)


def fused_tiles(device: Device, item: int, longest: int, r: int) -> Tiles:
    """Tiles of fused, for adapters of at most `longest` rows and rank r."""
    block_r = min(rank_block(r), RANKS_AT_ONCE[item])
    if item == 4:
        return Tiles(64, 32, block_r, block_n=64, num_warps=4, num_stages=2)
    # Few rows, or a last tile that would be more than half empty.
    few = longest <= 64 or _tiles(longest, 64) * 64 < _tiles(longest, 128) * 128
    block_m, block_n = (64 if few else 128), 128
    for block_k, stages in ((64, 4), (64, 3), (64, 2), (32, 2)):
        if stages * block_k * (block_m + block_n) * item <= device.shared_bytes - 4096:
            break
    return Tiles(block_m, block_k, block_r, block_n, 8, stages)


def rank_block(r: int) -> int:
    """Rank tile: a power of two, at least 16 for a matrix product."""
    return max(16, 1 << (r - 1).bit_length())


def _splits(device: Device, programs: int, most: int) -> int:
    """Parts that give every multiprocessor a program."""
    return max(1, min(_tiles(device.multiprocessors, max(1, programs)), most, MOST_SPLITS))


def _tiles(size: int, block: int) -> int:
    return -(-size // block)
