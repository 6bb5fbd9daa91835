"""The learning rate of every training here."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, steps: int, warm_up: float) -> float:
    """Linear over the first share `warm_up` of the steps, then a cosine down to a tenth."""
    warm = max(1, round(warm_up * steps))
    if step < warm:
        return (step + 1) / warm
    done = (step - warm) / max(1, steps - warm)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))
