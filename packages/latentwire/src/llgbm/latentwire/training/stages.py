"""What every training here does: stages, validation, the best step, resume."""

from __future__ import annotations

import math
import random
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, Generic, TypeVar

import torch
from torch import nn
from tqdm import tqdm

from llgbm.deltas.atomic import write_json
from llgbm.deltas.environment import environment
from llgbm.deltas.errors import RunError
from llgbm.deltas.json_files import read_json
from llgbm.deltas.metrics_log import MetricsLog
from llgbm.latentwire.collapse import CollapseDetector
from llgbm.latentwire.data.base import Source
from llgbm.latentwire.diagnostics import diagnose, part_gradient_norms, term_gradient_norms
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import Example, check_examples
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import Scored
from llgbm.latentwire.training.config import StageConfig, TrainConfig
from llgbm.latentwire.training.data_notes import note_data
from llgbm.latentwire.training.files import RunFiles, write_settings
from llgbm.latentwire.training.freezing import frozen_but
from llgbm.latentwire.training.held_out import held_out_scores
from llgbm.latentwire.training.longest import check_lengths
from llgbm.latentwire.training.saved_state import (
    PROGRESS,
    SavedState,
    read_state,
    restore,
    save_state,
)
from llgbm.latentwire.training.schedule import learning_rate_factor
from llgbm.latentwire.training.step_losses import Loss, Losses

# A part that no loss has moved after so many steps is a mistake of the config (rule 12).
SILENT_STEPS = 25


C = TypeVar("C", bound=nn.Module)
L = TypeVar("L", bound=Loss)


class Training(ABC, Generic[C, L]):
    """One training; a step is a function of (config, step) and of what was trained before.

    Args:
        config: settings.
        compressor: that is trained.
        reader: frozen; the first one where there are several.
        folder: of the run; one with the same settings is resumed.
        overwrite: remove a run that is there, once the new one is known to fit together.

    Raises:
        RunError: the folder holds another run.
        ConfigError: a stage that cannot be trained.
    """

    def __init__(
        self,
        config: TrainConfig,
        compressor: C,
        reader: Reader,
        folder: Path,
        overwrite: bool = False,
    ) -> None:
        self.config, self.reader, self.files = config, reader, RunFiles(folder)
        self.compressor = compressor
        for stage in config.stages:
            # A mistake in the last stage is told before hours of the first.
            with torch.random.fork_rng(devices=[]):
                self._trained(stage, self._objective(stage))
        with self.files.locked():
            if overwrite and self.files.settings.exists():
                self.files.remove()
            write_settings(self.files, config)
        self.stage = 0
        self.step = 0  # of the stage
        self.total = 0  # of all stages
        self.smoothed: float | None = None
        self.best = math.inf
        self.seconds = 0.0

    @abstractmethod
    def _fit_parts(self, texts: Sequence[str]) -> None:
        """Fit what is fitted once and not trained."""

    @abstractmethod
    def _objective(self, stage: StageConfig) -> L:
        """The loss of a stage."""

    @abstractmethod
    def _losses(
        self, stage: StageConfig, examples: Sequence[Example], objective: L, rng: random.Random
    ) -> Losses:
        """The loss of a step; whatever it draws comes from `rng` or torch's generator."""

    @abstractmethod
    def _scored(self, batch: Sequence[Example], stage: StageConfig) -> dict[str, Scored]:
        """Predictions of held-out answers, by reader."""

    @abstractmethod
    def _written(self, batch: Sequence[Example]) -> dict[str, list[str]]:
        """Answers that are written to held-out questions, by reader."""

    @abstractmethod
    def _save(self, more: dict[str, Any]) -> None:
        """Write the compressor as the best one."""

    @abstractmethod
    def _load(self) -> C:
        """Load the best one."""

    def fit(self) -> C:
        """Run every stage to its end; return the best compressor of the last one.

        Raises:
            RunError: another process trains here, a saved state that is damaged or of another
                run, or a loss that is not finite.
        """
        if self.files.finished.exists():
            return self._load()
        with self.files.locked():
            return self._fit()

    def _fit(self) -> C:
        resumed = self._resume()
        log = MetricsLog(self.files.metrics, self.total or -1)
        # Rule 21: a run that is not looked at has no file of looks.
        if self.config.diagnose_every:
            self.diagnostics = MetricsLog(self.files.diagnostics, self.total or -1)
        while self.stage < len(self.config.stages):
            stage = self.config.stages[self.stage]
            self._fit_stage(stage, log, resumed)
            resumed = None
            self.stage, self.step = self.stage + 1, 0
            self.smoothed, self.best = None, math.inf
        finished = read_json(self.files.compressor / "config.json", RunError)["metadata"]
        write_json(
            self.files.finished,
            {
                "steps": self.total,
                "seconds": round(self.seconds, 1),
                "best": finished["validation"],
                "parameters": sum(each.numel() for each in self._parameters().values()),
                "environment": environment(self.config.seed, self.reader.device, self.reader.dtype),
            },
        )
        self.files.state.unlink(missing_ok=True)
        self.files.progress.unlink(missing_ok=True)
        return self._load()

    def _fit_stage(self, stage: StageConfig, log: MetricsLog, resumed: SavedState | None) -> None:
        source: Source = stage.data.open(self.config.seed)
        note_data(self.files, stage.name, source)
        if self.stage == 0 and self.step == 0:
            self._fit_parts(source.texts())
            self._check_lengths()
        held_out = source.validation(self.config.validation_examples)
        check_examples(held_out)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            objective = self._objective(stage)
        trained = self._trained(stage, objective)
        optimizer = torch.optim.AdamW(
            list(trained.values()), lr=stage.lr, weight_decay=stage.weight_decay, fused=True
        )
        if resumed is not None:
            restore(self.files, resumed, self.compressor, objective, optimizer, trained)
        # A resumed stage may have few steps left: its first part has passed this check.
        silent = {name for name in trained if _always_read(name)} if resumed is None else set()
        if self.step == 0:
            self._validate(held_out, log, stage)
        bar = tqdm(
            total=stage.steps, initial=self.step, desc=stage.name, unit="step", mininterval=1.0
        )
        with bar:
            while self.step < stage.steps:
                begin = time.perf_counter()
                record = self._train_step(stage, source, objective, optimizer, trained)
                self.seconds += time.perf_counter() - begin
                silent -= {
                    name for name in silent if (g := trained[name].grad) is not None and g.any()
                }
                if silent and self.step in (SILENT_STEPS, stage.steps):
                    raise RunError(
                        f"{self.files.folder}: stage {stage.name!r}: no loss moves "
                        f"{sorted(silent)[0]} and {len(silent) - 1} more: leave its part out of "
                        "`train`, or add a term that reads it"
                    )
                log.write(record)
                bar.update()
                bar.set_postfix(loss=f"{record['loss']:.3f}", refresh=False)
                if self.step % self.config.validate_every == 0 or self.step == stage.steps:
                    self._validate(held_out, log, stage)
                if self.step % self.config.save_every == 0 and self.step < stage.steps:
                    save_state(
                        self.files, self._progress, self.compressor, objective, optimizer, trained
                    )

    @torch.no_grad()
    def _check_lengths(self) -> None:
        """Read the longest examples of every stage before hours of the first."""
        self.compressor.eval()
        for stage in self.config.stages:
            source: Source = stage.data.open(self.config.seed)
            held_out = source.validation(self.config.validation_examples)
            check_lengths(
                stage.name,
                [*source.specimens(), *held_out],
                self.reader,
                partial(self._scored, stage=stage),
            )

    def _train_step(
        self,
        stage: StageConfig,
        source: Source,
        objective: L,
        optimizer: torch.optim.Optimizer,
        trained: dict[str, nn.Parameter],
    ) -> dict[str, Any]:
        """Take one optimiser step; return its record."""
        rng = random.Random(f"{self.config.seed}:{stage.name}:{self.step}")
        examples = source.batch(stage.batch_size, self.step)
        self.compressor.train()
        for name, part in self.compressor.named_children():
            if stage.train and name not in stage.train:
                # Running statistics and codebooks of a part that is left alone stay, too.
                part.eval()
        # Dropout and what terms draw is a function of the step, so that a run can resume.
        torch.manual_seed(rng.randrange(2**31))
        with frozen_but(self.compressor, trained):
            losses = self._losses(stage, examples, objective, rng)
        loss = torch.stack(list(losses.values.values())).sum()
        if not torch.isfinite(loss):
            raise RunError(
                f"{self.files.folder}: stage {stage.name!r}, step {self.step + 1}: expected a "
                "finite loss, got NaN or Inf: lower lr"
            )
        for group in optimizer.param_groups:
            group["lr"] = stage.lr * learning_rate_factor(self.step, stage.steps, stage.warm_up)
        optimizer.zero_grad(set_to_none=True)
        every = self.config.diagnose_every
        look = bool(every) and self.step % every == 0
        norms = term_gradient_norms(losses.values, trained) if look else {}
        loss.backward()
        if look:
            self._diagnose(losses, trained, norms, stage)
        norm = torch.nn.utils.clip_grad_norm_(list(trained.values()), stage.clip_norm)
        optimizer.step()
        self.step += 1
        self.total += 1
        return {
            "step": self.total,
            "stage": stage.name,
            "split": "train",
            "loss": float(loss.detach()),
            "grad_norm": float(norm),
            "keep": losses.keep,
            **losses.log,
        }

    def _diagnose(
        self,
        losses: Losses,
        trained: Mapping[str, nn.Parameter],
        norms: Mapping[str, float],
        stage: StageConfig,
    ) -> None:
        """Write one line a reader."""
        parts = part_gradient_norms(trained)
        for name, step in losses.steps.items():
            line = diagnose(step, keep_probability=losses.keep, parts=parts, terms=norms)
            reader = {"reader": name} if name else {}
            line |= {"step": self.total + 1, "stage": stage.name, **reader}
            self.diagnostics.write(line)

    def _is_text_step(self, stage: StageConfig, rng: random.Random) -> bool:
        """Whether a step is one without compression."""
        if self.step / stage.steps < stage.text_steps.warm_up:
            return self.step % 2 == 0
        return rng.random() < stage.text_steps.tail

    def _keep(self, stage: StageConfig, rng: random.Random) -> float:
        """Share of slots that a step keeps."""
        # Drawn, not alternating: steps without compression and diagnostics alternate already.
        return 1.0 if rng.random() < 0.5 else rng.uniform(stage.keep, 1.0)

    def _parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter that training may move, by name."""
        named = self.compressor.named_parameters()
        return {name: each for name, each in named if each.requires_grad}

    def _trained(self, stage: StageConfig, objective: L) -> dict[str, nn.Parameter]:
        """Parameters that a stage moves, by name, each once.

        Raises:
            ConfigError: a stage that trains nothing.
        """
        wanted = stage.train
        found = {
            name: each
            for name, each in self._parameters().items()
            if not wanted or name.split(".")[0] in wanted
        }
        if not wanted or "heads" in wanted:
            found |= {f"heads.{name}": each for name, each in objective.named_parameters()}
        if not found:
            raise ConfigError(f"stage {stage.name!r}: train: {wanted} hold nothing that trains")
        return found

    @torch.no_grad()
    def _validate(self, held_out: Sequence[Example], log: MetricsLog, stage: StageConfig) -> None:
        """Score held-out answers; keep the compressor where the smoothed loss is the lowest.

        With several readers the loss is the mean of theirs.
        """
        self.compressor.eval()
        seen = held_out_scores(held_out, stage.batch_size, lambda batch: self._scored(batch, stage))
        value = fmean(score.nll for score in seen.values())
        if not math.isfinite(value):
            raise RunError(f"{self.files.folder}: validation: expected a finite loss, got {value}")
        past = value if self.smoothed is None else self.smoothed
        weight = self.config.smoothing
        self.smoothed = weight * past + (1 - weight) * value
        log.write(
            {
                "step": self.total,
                "stage": stage.name,
                "split": "validation",
                "nll": value,
                "smoothed": self.smoothed,
                "first_at_1": fmean(score.first_at_1 for score in seen.values()),
                **{f"{name}/nll": score.nll for name, score in seen.items() if name},
                **{f"{name}/first_at_1": score.first_at_1 for name, score in seen.items() if name},
            }
        )
        if self.config.stop_on_collapse and not any(example.mark for example in held_out):
            self._require_health(held_out, stage.batch_size)
        if self.smoothed < self.best or self.step == 0:
            self.best = self.smoothed
            self._save({"step": self.total, "stage": stage.name, "validation": self.best})

    def _require_health(self, held_out: Sequence[Example], size: int) -> None:
        """Stop where the answers to held-out questions have collapsed, once training has begun."""
        if not self.step:
            return
        texts: dict[str, list[str]] = defaultdict(list)
        for start in range(0, len(held_out), size):
            for name, written in self._written(held_out[start : start + size]).items():
                texts[name] += written
        for said in texts.values():
            CollapseDetector().require_health(said, [example.answer for example in held_out])

    @property
    def _progress(self) -> dict[str, Any]:
        """Where the training is, as JSON values."""
        return {name: getattr(self, name) for name in PROGRESS}

    def _resume(self) -> SavedState | None:
        """Go to where an interrupted run was; None where there is nothing to go on from."""
        saved = read_state(self.files, self.config.stages)
        for name in PROGRESS if saved is not None else ():
            setattr(self, name, saved.progress[name])  # type: ignore[union-attr]
        return saved


def _always_read(name: str) -> bool:
    """Whether every step must move a parameter: not marks of one kind, nor heads of late terms."""
    return ".marks." not in name and not name.startswith("heads.")
