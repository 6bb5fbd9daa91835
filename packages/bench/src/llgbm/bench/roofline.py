"""What the device can do at most, measured here, and what a layer of linears needs at least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from llgbm.bench.timing import interleaved


@dataclass(frozen=True)
class Roofline:
    """Measured limits of a device.

    Attributes:
        copy_gb_per_s: bytes read and written by a large copy, 1e9 a second.
        matmul_tflop_per_s: of a large square product in the dtype measured.
    """

    copy_gb_per_s: float
    matmul_tflop_per_s: float

    def least_ms(self, flop: float, size: float) -> float:
        """Milliseconds below which work of `flop` and `size` bytes cannot come."""
        compute = flop / (self.matmul_tflop_per_s * 1e12)
        return 1e3 * max(compute, size / (self.copy_gb_per_s * 1e9))


def measure_roofline(device: torch.device, dtype: torch.dtype) -> Roofline:
    """Measure copies beyond any cache, and square products large enough to fill the device."""
    cuda = device.type == "cuda"
    source = torch.empty(2**30 if cuda else 2**28, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    size = 8192 if cuda else 1024
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    timings = interleaved(
        {"copy": lambda: target.copy_(source), "matmul": lambda: torch.mm(a, b)}, repeats=10
    )
    # The best of the rounds that were not outliers: a limit, not a typical value.
    copy_s, matmul_s = (timings[name].low_ms / 1e3 for name in ("copy", "matmul"))
    return Roofline(2 * source.numel() / copy_s / 1e9, 2 * size**3 / matmul_s / 1e12)


def layer_needs(
    widths: Sequence[tuple[int, int]], n: int, rows: int, r: int, item: int
) -> tuple[float, float]:
    """FLOP and bytes that forward and backward of adapted linears need at least.

    Counts every tensor once a pass that must read or write it (x, y, dy, dx, the weight twice, A
    and B and their float32 gradients), and nothing that a fused kernel would keep inside.

    Args:
        widths: (in, out) of each linear.
        n: adapters.
        rows: of each adapter.
        r: rank.
        item: bytes of an activation.
    """
    flop = size = 0.0
    M = n * rows
    for inside, out in widths:
        flop += 2 * 2 * M * inside * out + 3 * 2 * M * r * (inside + out)
        activations = 2 * M * inside + 2 * M * out + M * inside  # x, dx, y, dy; x again for dA
        size += item * (activations + 2 * inside * out) + 2 * 2 * 4 * n * r * (inside + out)
    return flop, size
