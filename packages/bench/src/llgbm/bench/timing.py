"""Interleaved timing: every rival once a round, so that drift hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch


@dataclass(frozen=True)
class Timing:
    """Quantiles of one rival's times.

    Attributes:
        median_ms: milliseconds.
        low_ms: 20% quantile.
        high_ms: 80% quantile.
        peak_mib: CUDA memory above what was held before, MiB; None on the CPU, where one
            process cannot tell its rivals' memory apart.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    peak_mib: float | None


def interleaved(rivals: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Time every rival `repeats` times after one warm-up.

    Args:
        rivals: name -> work.
        repeats: rounds, at least 1.
    """
    cuda = torch.cuda.is_available()
    for work in rivals.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in rivals}
    peaks: dict[str, float] = {}
    for _ in range(repeats):
        for name, work in rivals.items():
            if cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
                held = torch.cuda.memory_allocated()
            start = time.perf_counter()
            work()
            if cuda:
                torch.cuda.synchronize()
                peaks[name] = (torch.cuda.max_memory_allocated() - held) / 2**20
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: _summary(values, peaks.get(name)) for name, values in times.items()}


def _summary(values: list[float], peak: float | None) -> Timing:
    ordered = sorted(values)
    last = len(ordered) - 1
    return Timing(median(ordered), ordered[round(0.2 * last)], ordered[round(0.8 * last)], peak)
