"""TrainingSettings: what every training on the teachers of a run reads."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import SettingError, check_name, require_at_least, require_seed
from llgbm.generators.losses.objectives import Objective
from llgbm.generators.training.next_tokens import require_next_tokens

# Steps of the warm-up where none are given.
WARMUP = 10


@dataclass(frozen=True)
class ConditionShares:
    """How often a training condition is of each kind; shares need not sum to 1."""

    prompts: float = 0.6
    prompts_with_answers: float = 0.0
    description: float = 0.4

    def __post_init__(self) -> None:
        require_at_least(
            0,
            prompts=self.prompts,
            prompts_with_answers=self.prompts_with_answers,
            description=self.description,
        )

    @property
    def validated_by(self) -> Literal["prompts", "prompts_with_answers"]:
        """Kind of the conditions that such a training is validated with."""
        only_answers = self.prompts_with_answers > 0 and not self.prompts
        return "prompts_with_answers" if only_answers else "prompts"


@dataclass(frozen=True)
class TrainingSettings(ABC):
    """Data, conditions, optimiser and rhythm of a training.

    Args:
        run: run folder with teachers and a delta cache.
        name: of what is trained; a second call goes on where the first stopped.
        conditions: kinds of training condition.
        condition_texts: smallest and largest number of texts in a condition.
        steps: optimiser steps.
        batch_size: adapters of a step, over all processes.
        lr: peak learning rate of AdamW; linear warm-up, then cosine to a twentieth.
        warmup_steps: of the learning rate, at most all steps; 10, or all of fewer, where None.
        weight_decay: of AdamW.
        clip_norm: largest gradient norm.
        condition_noise: standard deviation added to text embeddings in training, as a share of
            their RMS.
        probes: those of the delta cache: `generic`, `generic-10`, `generic-20`, `math`, `code`,
            `commonsense`, a text file, or several joined by +.
        deltas: what is read off the hidden states, as in the delta cache; read off it where None.
        delta_cache: name of the delta cache of the run; the main one where empty.
        target_models: folder of fully fine-tuned models, each in a folder named after its task;
            their deltas are the targets in place of the adapters' (mode B).
        encoder: frozen text encoder.
        validate_every: steps between validations; the best by delta cosine is kept, half of it
            that of validation families where there are some.
        save_every: steps between states that a resumed run goes on from.
        sft_examples: examples of each item in a step, where the objective has a task loss.
        checkpoint: run the base's layers again in the backward of a computed delta: a fraction of
            the memory for about a third more time, and the same bits.
        seed: of initialisation and data.
    """

    run: Path
    name: str = "generator"
    conditions: ConditionShares = field(default_factory=ConditionShares)
    condition_texts: tuple[int, int] = (1, 8)
    steps: int = 300
    batch_size: int = 6
    lr: float = 1e-3
    warmup_steps: int | None = None
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    condition_noise: float = 0.1
    probes: str = "generic"
    deltas: Annotated[DeltaSpec | None, tyro.conf.Suppress] = None
    delta_cache: str = ""
    target_models: Path | None = None
    encoder: str = "minilm-l6"
    validate_every: int = 25
    save_every: int = 50
    sft_examples: int = 4
    checkpoint: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(
            1,
            steps=self.steps,
            batch_size=self.batch_size,
            validate_every=self.validate_every,
            save_every=self.save_every,
            sft_examples=self.sft_examples,
            condition_texts=min(self.condition_texts),
        )
        require_at_least(0, lr=self.lr, warmup_steps=self.chosen_warmup)
        require_seed(self.seed)
        if self.chosen_warmup > self.steps:
            expected = f"at most the {self.steps} steps"
            raise SettingError(f"warmup_steps: expected {expected}, got {self.chosen_warmup}")
        if self.condition_texts[0] > self.condition_texts[1]:
            raise SettingError(
                f"condition_texts: expected smallest and largest, got {self.condition_texts}"
            )
        require_at_least(0, weight_decay=self.weight_decay, condition_noise=self.condition_noise)
        if not 0 < self.clip_norm < math.inf:
            raise SettingError(
                f"clip_norm: expected more than 0 and finite, got {self.clip_norm:g}"
            )
        check_name("name", self.name)
        self.chosen_objective.check(self.steps)
        if self.deltas is not None and self.chosen_objective.reads_next_tokens:
            require_next_tokens(self.deltas)

    @property
    @abstractmethod
    def chosen_objective(self) -> Objective:
        """What is minimised."""

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """What decides the outcome beside the fields of every training: dataclasses by name."""

    @property
    def chosen_warmup(self) -> int:
        """Steps of the warm-up: those given, or as many as a training has room for."""
        return min(WARMUP, self.steps) if self.warmup_steps is None else self.warmup_steps

    @property
    def chosen_deltas(self) -> DeltaSpec:
        """What is read off the hidden states.

        Raises:
            SettingError: neither given nor taken from the cache yet.
        """
        if self.deltas is None:
            raise SettingError("deltas: expected those of the delta cache, got None")
        return self.deltas

    def settings(self) -> dict[str, Any]:
        """What decides the outcome, as JSON; a run goes on only with the same."""
        neutral = {"run", "save_every", "checkpoint"}
        shared = {item.name for item in fields(TrainingSettings)} - neutral
        content = {key: value for key, value in asdict(self).items() if key in shared}
        content["warmup_steps"] = self.chosen_warmup
        content |= {name: described(part) for name, part in self.parts().items()}
        return json.loads(json.dumps(content, default=str))


def described(part: Any) -> dict[str, Any]:
    """A part's type and fields, and those of the parts within it."""
    values = {f.name: getattr(part, f.name) for f in fields(part)}
    plain = {
        key: described(value) if is_dataclass(value) else value for key, value in values.items()
    }
    return {"kind": type(part).__name__, **plain}
