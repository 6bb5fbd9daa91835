"""Distillation of hidden states: at the answer, layers should see what they see after the text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, mse_loss

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.base import TERMS, Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.losses.teacher import taught
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.schedules import ScheduleConfig


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over positions of 1 - cosine of hidden states [s, h]."""
    return 1 - cosine_similarity(student, teacher, dim=-1).mean()


def relative_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of hidden states [s, h] over the teacher's mean square.

    Without that division a layer counts by the size of its states, which differ a thousandfold.
    """
    return mse_loss(student, teacher) / teacher.square().mean()


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine_distance,
    "mse": relative_error,
}


@TERMS.register("hidden_kd")
@dataclass(frozen=True)
class HiddenKDTermConfig:
    """Distance of hidden states that predict the answer's tokens, latents against text.

    Args:
        weight: of the term.
        schedule: of the weight.
        layers: after which decoder layers, the first being 1; after the last where empty. Where
            the model gives the last one after its final norm, so it is here.
        distance: `cosine`, or `mse` over the teacher's mean square.
    """

    weight: float = 0.5
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    layers: tuple[int, ...] = ()
    distance: Literal["cosine", "mse"] = "cosine"

    def build(self, compressor: Compressor, reader: Reader) -> HiddenKDTerm:
        """Build it.

        Raises:
            ConfigError: an unknown distance, or a layer that the reader does not have.
        """
        if self.distance not in DISTANCES:
            raise ConfigError(
                f"hidden_kd.distance: expected one of {', '.join(DISTANCES)}, got {self.distance!r}"
            )
        layers = self.layers or (reader.layers,)
        if not all(1 <= layer <= reader.layers for layer in layers):
            raise ConfigError(
                f"hidden_kd.layers: expected from 1 to {reader.layers}, got {self.layers}"
            )
        return HiddenKDTerm(layers, DISTANCES[self.distance])


class HiddenKDTerm(Term):
    """Mean over chosen layers of the distance."""

    reads_layers: ClassVar[bool] = True

    def __init__(
        self, layers: tuple[int, ...], distance: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.layers, self.distance = layers, distance

    def forward(self, step: Step) -> Tensor:
        """See `Term.forward`."""
        student = step.scored_layers
        teacher, kept = taught(step, student)
        self.logged = {"taught": float(kept.float().mean())}
        if not kept.any():
            return student.hidden.sum() * 0
        found = [
            self.distance(student.layers[layer - 1][kept], teacher.layers[layer - 1][kept])
            for layer in self.layers
        ]
        return torch.stack(found).mean()
