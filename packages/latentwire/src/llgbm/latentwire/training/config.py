"""What a training is: a reader, a compressor, and stages one after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.latentwire.compressor import CompressorConfig
from llgbm.latentwire.data.base import SOURCES
from llgbm.latentwire.data.sources import PretrainingSourceConfig, SquadSourceConfig
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.answer import AnswerTermConfig
from llgbm.latentwire.losses.base import TERMS

PARTS = ("encoder", "refiner", "pooler", "bottleneck", "port", "heads")


@dataclass(frozen=True)
class TextStepsConfig:
    """Steps at which every token has its own slot: the reader sees nearly text.

    Args:
        warm_up: share of the stage in which every second step is one.
        tail: chance of one after that.
    """

    warm_up: float = 0.0
    tail: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.warm_up <= 1 and 0 <= self.tail <= 1):
            raise ConfigError(
                f"text_steps: expected shares from 0 to 1, got {self.warm_up:g}, {self.tail:g}"
            )


@dataclass(frozen=True)
class StageConfig:
    """One stage: data, losses, and what they train.

    Args:
        name: shown and logged; stages differ in it.
        data: where examples come from.
        losses: terms, weighed and scheduled.
        steps: optimiser steps; with 0 parts are fitted and validated, and nothing is trained.
        batch_size: examples of a step.
        lr: highest learning rate; warms up, then falls along a cosine to a tenth.
        warm_up: share of the steps that it takes to get there.
        weight_decay: of AdamW.
        clip_norm: gradients are scaled down to this norm.
        train: parts that move, of encoder, pooler, refiner, bottleneck, port, heads; the others
            are as they are. All where empty.
        keep: least share of slots that is kept; at every second step all are (what evaluation
            sees), else a share between this and 1 is drawn.
        text_steps: steps without compression, against a cold start.
    """

    name: str = "questions"
    data: Any = field(default_factory=SquadSourceConfig, metadata={"registry": SOURCES})
    losses: Any = field(
        default_factory=lambda: (AnswerTermConfig(),), metadata={"registry": TERMS, "many": True}
    )
    steps: int = 200
    batch_size: int = 12
    lr: float = 5e-4
    warm_up: float = 0.1
    weight_decay: float = 0.0
    clip_norm: float = 1.0
    train: tuple[str, ...] = ()
    keep: float = 1.0
    text_steps: TextStepsConfig = field(default_factory=TextStepsConfig)

    def __post_init__(self) -> None:
        require_at_least(1, batch_size=self.batch_size)
        require_at_least(0, steps=self.steps, lr=self.lr, weight_decay=self.weight_decay)
        if not 0 < self.keep <= 1 or not 0 <= self.warm_up <= 1 or not self.clip_norm > 0:
            raise ConfigError(
                "stage: expected keep above 0 to 1, warm_up from 0 to 1, clip_norm above 0, "
                f"got {self.keep:g}, {self.warm_up:g}, {self.clip_norm:g}"
            )
        wrong = [part for part in self.train if part not in PARTS]
        if wrong:
            raise ConfigError(f"train: expected parts of {', '.join(PARTS)}, got {wrong[0]!r}")


def recipe_stages() -> tuple[StageConfig, ...]:
    """Pretraining on passages, then questions: the recipe of the anchor, section 4."""
    return (
        StageConfig("pretrain", PretrainingSourceConfig(), steps=400),
        StageConfig("questions", SquadSourceConfig(), steps=150, lr=3e-4),
    )


@dataclass(frozen=True)
class TrainConfig:
    """A whole training.

    Args:
        reader: a base model's name, the folder of a tuned reader, or a hub id.
        compressor: its parts.
        stages: run in this order.
        validate_every: steps between validations.
        validation_examples: of each.
        smoothing: weight of the past in the metric that the best step is chosen by.
        save_every: steps between saved states.
        diagnose_every: steps between lines of diagnostics.jsonl; 0 for none.
        stop_on_collapse: end the run where validation answers have collapsed.
        start_from: a trained run whose compressor is taken over; none where empty.
        seed: of parts and data.
    """

    reader: str = "smollm2-135m"
    compressor: CompressorConfig = field(default_factory=CompressorConfig)
    stages: tuple[StageConfig, ...] = field(default_factory=recipe_stages)
    validate_every: int = 50
    validation_examples: int = 32
    smoothing: float = 0.5
    save_every: int = 50
    diagnose_every: int = 50
    stop_on_collapse: bool = False
    start_from: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(
            1,
            validate_every=self.validate_every,
            validation_examples=self.validation_examples,
            save_every=self.save_every,
        )
        require_at_least(0, diagnose_every=self.diagnose_every)
        require_seed(self.seed)
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"stages: expected different names, at least one, got {names}")
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"smoothing: expected from 0 to below 1, got {self.smoothing:g}")
