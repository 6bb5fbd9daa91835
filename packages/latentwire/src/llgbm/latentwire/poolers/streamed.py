"""Mean and covariance of more vectors than fit in memory, in float64."""

from __future__ import annotations

import torch
from torch import Tensor


class StreamedCovariance:
    """Takes vectors batch by batch; order and batch size do not matter.

    Args:
        width: d of the vectors.
        device: where sums are kept.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        self.count = 0
        self.mean = torch.zeros(width, dtype=torch.float64, device=device)
        self.scatter = torch.zeros(width, width, dtype=torch.float64, device=device)

    def add(self, rows: Tensor) -> None:
        """Take vectors [n, d].

        Sums are about the mean so far, so that nothing cancels (Chan et al. 1979).
        """
        rows = rows.detach().double()
        count = self.count + len(rows)
        shift = rows.mean(0) - self.mean
        centred = rows - rows.mean(0)
        between = self.count * len(rows) / count
        self.scatter += centred.T @ centred + between * torch.outer(shift, shift)
        self.mean += shift * (len(rows) / count)
        self.count = count

    def principal(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean [d], components [d, d] as rows, and the variance [d] along them, greatest first.

        A component's entry of greatest size is positive, so that a fit is the same every time.
        """
        variance, vectors = torch.linalg.eigh(self.scatter / (self.count - 1))
        components = vectors.T.flip(0)
        largest = components.abs().argmax(1, keepdim=True)
        components = components * components.gather(1, largest).sign()
        return self.mean, components, variance.flip(0).clamp(min=0)
