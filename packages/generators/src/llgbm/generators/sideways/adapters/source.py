"""What an adapter collection was made of: enough to make the same models and examples again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import (
    RunError,
    SettingError,
    TaskError,
    mismatch,
    require_at_least,
    require_seed,
)
from llgbm.deltas.fingerprint import base_fingerprint
from llgbm.deltas.spec import ALL_LINEAR, LoRASpec
from llgbm.deltas.task import Example
from llgbm.deltas.tasks import load_task
from llgbm.deltas.tokenizers import register_tokenizer
from llgbm.generators.sideways.adapters.hyperparameters import HyperparameterRanges
from llgbm.generators.sideways.adapters.measure import AdapterMeter
from llgbm.generators.sideways.adapters.texts import GeneralTexts

KIND = "adapters"
MEASURED_WORDS = 48


@dataclass(frozen=True)
class AdapterRuns:
    """Runs of one task with different hyperparameters, from one and the same A.

    Args:
        task: packaged name, JSON/JSONL file or hub data set.
        general: task whose queries serve as general text.
        others: tasks that runs are not taught and may get worse at.
        base_model: `smollm2-135m`, a local folder or a hub id.
        runs: trainings.
        steps: of each.
        keep_every: steps between checkpoints.
        examples_per_step: of each run.
        max_tokens: longest query + answer.
        ranges: of hyperparameters.
        r: LoRA rank.
        lora_alpha: LoRA alpha.
        target_modules: names of the adapted linears.
        scored: examples of the task that checkpoints are measured on.
        texts: general texts that they are measured on.
        scored_of_others: examples of each other task that they are measured on.
        seed: of initialisation, draws and data order.
    """

    task: str = "csqa"
    general: str = "boolq"
    others: tuple[str, ...] = ("arc_easy",)
    base_model: str = "smollm2-135m"
    runs: int = 20
    steps: int = 32
    keep_every: int = 4
    examples_per_step: int = 8
    max_tokens: int = 128
    ranges: HyperparameterRanges = field(default_factory=HyperparameterRanges)
    r: int = 4
    lora_alpha: float = 8.0
    target_modules: tuple[str, ...] = ALL_LINEAR
    scored: int = 48
    texts: int = 8
    scored_of_others: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(
            1,
            steps=self.steps,
            keep_every=self.keep_every,
            examples_per_step=self.examples_per_step,
            r=self.r,
            scored=self.scored,
            texts=self.texts,
            scored_of_others=self.scored_of_others,
        )
        require_at_least(3, runs=self.runs)
        require_at_least(2, max_tokens=self.max_tokens)
        require_seed(self.seed)
        if self.steps % self.keep_every:
            raise SettingError(
                f"keep_every: expected a divisor of the {self.steps} steps, got {self.keep_every}"
            )
        if self.task in self.others:
            raise SettingError(f"others: expected other tasks than {self.task!r}, got it, too")
        if self.task == self.general:
            raise SettingError(f"general: expected another task than {self.task!r}, got the same")


@dataclass(frozen=True)
class AdapterWorld:
    """A base model with the examples and texts of an adapter collection.

    Attributes:
        model: frozen base.
        tokenizer: of the base.
        spec: of the adapters.
        runs: settings.
        texts: general ones.
        fingerprint: of the base's weights.
    """

    model: nn.Module
    tokenizer: Any
    spec: LoRASpec
    runs: AdapterRuns
    texts: GeneralTexts
    fingerprint: str

    @classmethod
    def of(
        cls, runs: AdapterRuns, model: nn.Module | None = None, tokenizer: Any = None
    ) -> AdapterWorld:
        """Load the base, where none is given, and the texts.

        Raises:
            TaskError: an unknown task, or one without choices to measure.
        """
        asked = {runs.task: runs.scored, **dict.fromkeys(runs.others, runs.scored_of_others)}
        for name, count in asked.items():
            task = load_task(name, seed=runs.seed)
            task.require_choices()
            there = min(len(task.validation), len(task.test))
            if there < count:
                raise TaskError(
                    f"{task.name}: examples to measure on: expected at least {count} in validation "
                    f"and in test, got {there}"
                )
        if model is None:
            model, tokenizer = load_base_model(runs.base_model)
        else:
            register_tokenizer(model, tokenizer)
        general = load_task(runs.general, seed=runs.seed)
        return cls(
            model,
            tokenizer,
            LoRASpec.from_model(model, runs.r, runs.lora_alpha, runs.target_modules),
            runs,
            GeneralTexts.of(general, max(8, runs.texts), runs.texts, MEASURED_WORDS),
            base_fingerprint(model),
        )

    @classmethod
    def of_source(
        cls,
        source: Mapping[str, Any],
        where: Path,
        model: nn.Module | None = None,
        tokenizer: Any = None,
    ) -> AdapterWorld:
        """Make the world of a collection again.

        Raises:
            RunError: the collection is not of adapters, or the base has other weights now.
        """
        if source.get("kind") != KIND:
            raise RunError(
                f"{where}: expected a collection of adapter runs, whose metrics can be measured "
                f"again, got kind {source.get('kind')!r}: give --evaluator"
            )
        settings = dict(source["runs"])
        settings["ranges"] = HyperparameterRanges(**settings["ranges"])
        for name in ("target_modules", "others"):
            settings[name] = tuple(settings[name])
        made = cls.of(AdapterRuns(**settings), model, tokenizer)
        if made.fingerprint != source["base_fingerprint"]:
            raise RunError(
                mismatch(where, "base model", source["base_fingerprint"], made.fingerprint)
            )
        return made

    def source(self) -> dict[str, Any]:
        """What `of_source` needs, as JSON."""
        return {
            "kind": KIND,
            "runs": asdict(self.runs),
            "base_fingerprint": self.fingerprint,
        }

    def meter(self, split: str = "validation", others: bool = True) -> AdapterMeter:
        """Measure on a split that no run trains on: `validation` to choose by, or `test`.

        Args:
            split: `validation` or `test`.
            others: measure other tasks, too.
        """
        task = load_task(self.runs.task, seed=self.runs.seed)
        examples = task.validation if split == "validation" else task.test
        texts = self.texts.measured if split == "validation" else self.texts.tested
        of_others: list[Example] = []
        for name in self.runs.others if others else ():
            other = load_task(name, seed=self.runs.seed)
            own = other.validation if split == "validation" else other.test
            of_others += own[: self.runs.scored_of_others]
        return AdapterMeter(
            self.model, self.tokenizer, self.spec, examples[: self.runs.scored], texts, of_others
        )
