"""Whole numbers of few bits side by side in bytes."""

from __future__ import annotations

import numpy as np


def packed_size(count: int, bits: int) -> int:
    """Bytes of `count` numbers of `bits` bits."""
    return -(-count * bits // 8)


def bits_of(values: int) -> int:
    """Bits that tell `values` values apart: ceil(log2 values), at least 1."""
    return max(1, (values - 1).bit_length())


def pack_bits(numbers: np.ndarray, bits: int) -> bytes:
    """Pack numbers from 0 to 2**bits - 1; the lowest bit comes first, in numbers and in bytes.

    Args:
        numbers: [n] of whole numbers.
        bits: of each, 1 to 32.

    Returns:
        ceil(n * bits / 8) bytes; bits left over are 0.

    Raises:
        ValueError: a number that does not fit.
    """
    numbers = np.asarray(numbers, dtype=np.int64)
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) < 1 << bits:
        raise ValueError(
            f"numbers: expected from 0 to {(1 << bits) - 1}, "
            f"got from {numbers.min()} to {numbers.max()}"
        )
    planes = np.empty((numbers.size, bits), dtype=np.uint8)
    for place in range(bits):
        planes[:, place] = (numbers >> place) & 1
    return np.packbits(planes.reshape(-1), bitorder="little").tobytes()


def unpack_bits(data: bytes, count: int, bits: int) -> np.ndarray:
    """Inverse of `pack_bits`.

    Args:
        data: exactly `packed_size(count, bits)` bytes.
        count: of numbers.
        bits: of each.

    Returns:
        [count] int64.

    Raises:
        ValueError: another number of bytes, or bits left over that are not 0.
    """
    if len(data) != packed_size(count, bits):
        raise ValueError(
            f"packed numbers: expected {packed_size(count, bits)} bytes, got {len(data)}"
        )
    flat = np.unpackbits(np.frombuffer(data, dtype=np.uint8), bitorder="little")
    if flat[count * bits :].any():
        raise ValueError("packed numbers: expected 0 in the bits left over, got 1")
    planes = flat[: count * bits].reshape(count, bits)
    numbers = np.zeros(count, dtype=np.int64)
    for place in range(bits):
        numbers |= planes[:, place].astype(np.int64) << place
    return numbers
