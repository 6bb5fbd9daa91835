"""Ways through a latent space whose steps change the updates by equal lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.losses.weights import delta_w_inner

# Adapters that the length of a way is measured on.
MEASURED = 17


def even_places(adapters: LoRAWeights, places: Sequence[float], shares: Sequence[float]) -> Tensor:
    """Places on a way where a share of its length lies behind.

    The length is that of the updates, all modules together, by the Gram identity.

    Args:
        adapters: n of them along the way, both ends among them.
        places: n numbers from 0 to 1, ascending: where each stands.
        shares: m numbers from 0 to 1.

    Returns:
        [m] float64; the shares themselves where the way has no length.
    """
    first, second = (
        adapters.select(list(range(begin, adapters.n - 1 + begin))) for begin in (0, 1)
    )
    squares = (
        delta_w_inner(first, first)
        + delta_w_inner(second, second)
        - 2 * delta_w_inner(first, second)
    )
    steps = squares.sum(1).double().clamp_min(0).sqrt().cpu()
    walked = torch.cat([torch.zeros(1, dtype=torch.double), steps.cumsum(0)])
    wanted = torch.tensor(list(shares), dtype=torch.double)
    if walked[-1] <= 0:
        return wanted
    stands = torch.tensor(list(places), dtype=torch.double)
    goal = wanted * walked[-1]
    after = torch.searchsorted(walked, goal).clamp(1, len(walked) - 1)
    length = (walked[after] - walked[after - 1]).clamp_min(torch.finfo(torch.double).tiny)
    within = ((goal - walked[after - 1]) / length).clamp(0, 1)
    return stands[after - 1] + within * (stands[after] - stands[after - 1])
