"""TrainConfig: what `llgbm train` reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llgbm.generators.decoders import FullWidthConfig, HyperConvConfig, PeriodicConfig
from llgbm.generators.losses import DeltaGuided, DeltaOnly, MultiTask
from llgbm.generators.losses.recommended import recommended_objective
from llgbm.generators.training.settings import ConditionShares, TrainingSettings

__all__ = ["ConditionShares", "TrainConfig"]


@dataclass(frozen=True)
class TrainConfig(TrainingSettings):
    """Train a generator on the teachers of a run.

    Args:
        objective: what is minimised; `recommended_objective` where none is given.
        decoder: how a condition becomes factors.
    """

    objective: MultiTask | DeltaOnly | DeltaGuided | None = None
    decoder: FullWidthConfig | PeriodicConfig | HyperConvConfig = field(
        default_factory=FullWidthConfig
    )

    @property
    def chosen_objective(self) -> MultiTask | DeltaOnly | DeltaGuided:
        """The objective given, or the recommended one."""
        return self.objective or recommended_objective(self.steps)

    def parts(self) -> dict[str, Any]:
        """See TrainingSettings."""
        return {"objective": self.chosen_objective, "decoder": self.decoder}
