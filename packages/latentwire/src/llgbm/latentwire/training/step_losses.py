"""What a training knows of a step's loss, whatever it is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from llgbm.latentwire.losses.step import Step


class Loss(Protocol):
    """A module of losses that a run can save and resume."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What it trains of its own."""

    def state_dict(self, *, prefix: str) -> dict[str, Any]:
        """Its parameters and buffers."""

    def state(self) -> dict[str, Any]:
        """What a resumed run has to know beside them."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""


@dataclass(frozen=True)
class Losses:
    """One step before its backward pass.

    Attributes:
        values: scalars by term; the loss is their sum.
        log: numbers for the metrics.
        steps: what the terms looked at, by reader; of one reader the name is empty.
        keep: share of slots that latent dropout kept.
    """

    values: Mapping[str, Tensor]
    log: Mapping[str, float]
    steps: Mapping[str, Step]
    keep: float
