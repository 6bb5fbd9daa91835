"""The shape of result files: one function that makes it, for all suites."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from llgbm.bench.timing import Timing
from llgbm.deltas.environment import environment

SCHEMA = 1


def results_of(
    suite: str, config: Any, device: torch.device, dtype: torch.dtype, **parts: Any
) -> dict[str, Any]:
    """Results with what they were measured with.

    Args:
        suite: name of the benchmark.
        config: its dataclass, with `seed` and `out`.
        device: measured on.
        dtype: of the model.
        parts: `rows` or `cases`, and more.
    """
    return {
        "schema": SCHEMA,
        "suite": suite,
        "config": {key: value for key, value in asdict(config).items() if key != "out"},
        "environment": environment(config.seed, device, dtype),
        **parts,
    }


def rows_of(
    timings: Mapping[str, Timing],
    peaks: Mapping[str, float],
    errors: Mapping[str, float],
    tokens: int,
    n: int,
) -> dict[str, dict[str, Any]]:
    """One row a rival; `base_alone` must be among them.

    Args:
        timings: by rival.
        peaks: MiB, by rival.
        errors: relative error of those that have one.
        tokens: of one call, over all adapters.
        n: adapters.
    """
    base = timings["base_alone"].median_ms
    return {
        name: {
            **asdict(timing),
            "peak_mib": peaks[name],
            "tokens_per_s": tokens / timing.median_ms * 1e3,
            "adapters_per_s": n / timing.median_ms * 1e3,
            "times_base": timing.median_ms / base,
            "relative_error": errors.get(name),
        }
        for name, timing in timings.items()
    }
