"""Peak memory of a piece of work, on the CPU as exactly as on a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def peak_mib(work: Callable[[], object]) -> float:
    """Most memory that `work` held at once above what was held before, MiB.

    CUDA: the allocator's own count. CPU: torch's allocations as its profiler lists them, added
    up in their order, so that what the process held before or other processes do has no part.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - held) / 2**20
    # The profiler announces itself on stderr at every start.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    recorded = profiled.profiler
    assert recorded is not None
    assert recorded.kineto_results is not None
    changes = [
        (event.start_ns(), event.nbytes())
        for event in recorded.kineto_results.events()
        if event.name() == "[memory]"
    ]
    now = peak = 0
    for _, size in sorted(changes, key=lambda change: change[0]):
        now += size
        peak = max(peak, now)
    return peak / 2**20
