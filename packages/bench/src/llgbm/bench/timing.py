"""Interleaved timing: every rival once a round, so that drift hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

Work = Callable[[], object]
# Work that takes its own times: seconds by part.
Parts = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Timing:
    """Quantiles of one rival's times.

    Attributes:
        median_ms: milliseconds.
        low_ms: 20% quantile.
        high_ms: 80% quantile.
        graph_timed: whether a CUDA graph was replayed, so that launches cost nothing.
    """

    median_ms: float
    low_ms: float
    high_ms: float
    graph_timed: bool = False


def interleaved(rivals: Mapping[str, Work], repeats: int) -> dict[str, Timing]:
    """Time every rival `repeats` times after one warm-up.

    Args:
        rivals: name -> work.
        repeats: rounds, at least 1.
    """
    for work in rivals.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(repeats):
        for name, work in rivals.items():
            times[name].append(_once(work))
    return {name: _summary(values, False) for name, values in times.items()}


def parts_interleaved(rivals: Sequence[Parts], repeats: int) -> dict[str, Timing]:
    """Time the parts of every rival `repeats` times after one warm-up.

    Args:
        rivals: works that wait for the device and return seconds; no two name a part alike.
        repeats: rounds, at least 1.
    """
    for work in rivals:
        work()
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        for work in rivals:
            for name, seconds in work().items():
                times.setdefault(name, []).append(1e3 * seconds)
    return {name: _summary(values, False) for name, values in times.items()}


def graph_interleaved(rivals: Mapping[str, Work], repeats: int) -> dict[str, Timing]:
    """The same with each rival's CUDA graph replayed; plain calls where none can be captured.

    Args:
        rivals: name -> work of fixed shapes.
        repeats: rounds, at least 1.
    """
    if not torch.cuda.is_available():
        return interleaved(rivals, repeats)
    replays = {name: _captured(work) for name, work in rivals.items()}
    works = {name: replays[name] or work for name, work in rivals.items()}
    timings = interleaved(works, repeats)
    return {
        name: Timing(t.median_ms, t.low_ms, t.high_ms, replays[name] is not None)
        for name, t in timings.items()
    }


def _once(work: Work) -> float:
    """Milliseconds of one call."""
    if torch.cuda.is_available():
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        work()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))
    begin = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - begin)


def _captured(work: Work) -> Work | None:
    """A replay of `work`, or None where it cannot be captured (it waits for the host, say)."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            work()
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return graph.replay


def _summary(values: list[float], graph_timed: bool) -> Timing:
    ordered = sorted(values)
    last = len(ordered) - 1
    low, high = ordered[round(0.2 * last)], ordered[round(0.8 * last)]
    return Timing(median(ordered), low, high, graph_timed)
