"""Statistics of a set of deltas: sizes, outliers, adapters that do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

# Robust z-score above which a norm is an outlier (Iglewicz and Hoaglin).
OUTLIER_Z = 3.5
# Scales the median absolute deviation to a standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class DeltaStatistics:
    """Norms of deltas and what stands out.

    Attributes:
        norms: by adapter id, in hidden-state units.
        median: of the norms.
        spread: robust standard deviation of the norms.
        outliers: ids whose norm lies more than OUTLIER_Z spreads from the median.
        silent: ids whose delta is zero.
        broken: ids that gave NaN or Inf.
    """

    norms: dict[str, float]
    median: float
    spread: float
    outliers: tuple[str, ...]
    silent: tuple[str, ...]
    broken: tuple[str, ...] = ()

    def table(self) -> str:
        """Render as aligned text."""
        if not self.norms:
            return "no deltas"
        width = max(map(len, self.norms))
        marks = {**dict.fromkeys(self.outliers, "outlier"), **dict.fromkeys(self.silent, "silent")}
        lines = [f"{'adapter':<{width}}  {'norm':>9}"]
        lines += [
            f"{name:<{width}}  {norm:9.4f}  {marks.get(name, '')}".rstrip()
            for name, norm in self.norms.items()
        ]
        lines.append(f"{'median':<{width}}  {self.median:9.4f}  spread {self.spread:.4f}")
        lines += [f"{name:<{width}}  {'-':>9}  broken (NaN or Inf)" for name in self.broken]
        return "\n".join(lines)


def delta_statistics(
    ids: Sequence[str], deltas: Tensor, broken: Sequence[str] = ()
) -> DeltaStatistics:
    """Summarise deltas.

    Args:
        ids: N names.
        deltas: [N, ...] float32.
        broken: names of adapters without a usable delta.
    """
    norms = deltas.flatten(1).norm(dim=1).numpy()
    median = float(np.median(norms)) if len(norms) else 0.0
    spread = float(np.median(np.abs(norms - median))) * MAD_TO_SIGMA if len(norms) else 0.0
    outliers = tuple(
        name
        for name, norm in zip(ids, norms, strict=True)
        if spread > 0 and abs(norm - median) / spread > OUTLIER_Z
    )
    silent = tuple(name for name, norm in zip(ids, norms, strict=True) if norm == 0)
    named = {name: float(norm) for name, norm in zip(ids, norms, strict=True)}
    return DeltaStatistics(named, median, spread, outliers, silent, tuple(broken))
