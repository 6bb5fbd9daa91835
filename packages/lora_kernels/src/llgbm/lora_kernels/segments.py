"""Segments: which rows belong to which adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import index

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Segments:
    """Rows offsets[i] to offsets[i + 1] belong to adapter i, which uses its first ranks[i] ranks.

    Made once and used by many layers: it holds its numbers on the device, so that no layer waits
    for a copy and a CUDA graph can be captured.

    Attributes:
        bounds: n + 1 row numbers.
        offsets: the same, [n + 1] int64 on the device.
        ranks: [n] int64 on the device, or None where every rank counts.
        longest: most rows of one adapter.
        largest_rank: largest of `ranks`, or None.
    """

    bounds: tuple[int, ...]
    offsets: Tensor
    ranks: Tensor | None
    longest: int
    largest_rank: int | None

    @classmethod
    def of(
        cls,
        offsets: Sequence[int] | Tensor,
        ranks: Sequence[int] | Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> Segments:
        """Check the numbers and put them on `device`.

        Args:
            offsets: n + 1 whole numbers from 0 that never fall; equal neighbours are an empty
                segment. A tensor on a GPU is copied to the host, which waits for the GPU.
            ranks: n whole numbers of at least 1.
            device: where the layers run.

        Raises:
            ValueError: numbers that do not ascend from 0, or ranks that are not n.
        """
        bounds = tuple(_whole("offsets", offsets))
        if len(bounds) < 2:
            raise ValueError(f"offsets: expected at least 2 numbers, got {len(bounds)}")
        if bounds[0] != 0 or any(b < a for a, b in pairwise(bounds)):
            raise ValueError(f"offsets: expected numbers from 0, never falling, got {bounds}")
        counted = None
        if ranks is not None:
            counted = _whole("ranks", ranks)
            if len(counted) != len(bounds) - 1 or min(counted) < 1:
                raise ValueError(
                    f"ranks: expected {len(bounds) - 1} numbers of at least 1, got {counted}"
                )
        return cls(
            bounds,
            torch.tensor(bounds, dtype=torch.int64).to(device),
            None if counted is None else torch.tensor(counted, dtype=torch.int64).to(device),
            max(end - start for start, end in pairwise(bounds)),
            None if counted is None else max(counted),
        )

    @property
    def n(self) -> int:
        """Adapters."""
        return len(self.bounds) - 1


def _whole(name: str, numbers: Sequence[int] | Tensor) -> list[int]:
    """The numbers as a list of int; ValueError for fractions and other shapes than a row."""
    if isinstance(numbers, Tensor):
        whole = not (
            numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool
        )
        if numbers.dim() != 1 or not whole or numbers.is_meta:
            raise ValueError(
                f"{name}: expected a row of whole numbers, got {numbers.dtype} of shape "
                f"{tuple(numbers.shape)} on {numbers.device}"
            )
        return [int(number) for number in numbers.tolist()]
    try:
        listed = list(numbers)
        if any(isinstance(number, bool) for number in listed):
            raise TypeError
        found = [index(number) for number in listed]
    except TypeError as error:
        raise ValueError(f"{name}: expected whole numbers, got {numbers!r}") from error
    if any(abs(number) >= 2**63 for number in found):
        raise ValueError(f"{name}: expected numbers below 2^63, got {found}")
    return found
