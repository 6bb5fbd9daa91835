"""The training of a compressor for one reader."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from llgbm.latentwire.alignment import check_alignment
from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.examples import Example
from llgbm.latentwire.generation import write
from llgbm.latentwire.latents import Latents, slot_mask
from llgbm.latentwire.losses.objective import Objective
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import Scored
from llgbm.latentwire.training.config import StageConfig, TextStepsConfig, TrainConfig
from llgbm.latentwire.training.files import load_compressor, save_compressor
from llgbm.latentwire.training.stages import Training
from llgbm.latentwire.training.step_losses import Losses

# Terms that ask what a single slot holds.
SLOT_TERMS = ("gist", "length")


class CompressorTraining(Training[Compressor, Objective]):
    """One training; a step is a function of (config, step) and of what was trained before.

    Args:
        config: settings.
        reader: frozen.
        folder: of the run; one with the same settings is resumed.
        overwrite: remove a run that is there first.

    Raises:
        RunError: the folder holds another run.
        ConfigError: parts that do not fit each other.
    """

    def __init__(
        self, config: TrainConfig, reader: Reader, folder: Path, overwrite: bool = False
    ) -> None:
        compressor = Compressor(config.compressor, reader, config.seed)
        if not compressor.pooler.slots_alike:
            _check_stages(config)
        if config.start_from:
            start, _ = load_compressor(Path(config.start_from), reader)
            alike = compressor.pooler.slots_alike
            if not alike and start.config.slots != config.compressor.slots:
                raise ConfigError(
                    f"start_from: expected slots as there, {start.config.slots}, which heads' "
                    f"shares were fitted for, got {config.compressor.slots}"
                )
            # Slots may differ: most parts know nothing of how many there are.
            if replace(start.config, slots=config.compressor.slots) != config.compressor:
                raise ConfigError("start_from: expected a compressor of the same parts")
            try:
                compressor.load_state_dict(start.state_dict())
            except RuntimeError as error:  # a part with a table of slots
                raise ConfigError(
                    f"start_from: expected parts of the same sizes, got: {error}"
                ) from error
        super().__init__(config, compressor, reader, folder, overwrite)

    def _fit_parts(self, texts: Sequence[str]) -> None:
        if not self.config.start_from:
            self.compressor.fit(texts)

    def _objective(self, stage: StageConfig) -> Objective:
        return Objective(stage.losses, self.compressor, self.reader)

    def _losses(
        self,
        stage: StageConfig,
        examples: Sequence[Example],
        objective: Objective,
        rng: random.Random,
    ) -> Losses:
        check_alignment(self.reader, examples)
        whole, latents, keep = self._latents(stage, examples, rng)
        step = Step(
            self.compressor, self.reader, examples, latents, self.step, stage.steps,
            rng.randrange(2**31), None if whole is latents else whole,
        )  # fmt: skip
        values, log = objective.contributions(step)
        return Losses(values, log, {"": step}, keep)

    def _latents(
        self, stage: StageConfig, examples: Sequence[Example], rng: random.Random
    ) -> tuple[Latents, Latents, float]:
        """Latents of a step before and after latent dropout, and the share of slots kept."""
        texts = [example.context for example in examples]
        ratio = 1.0 if self._is_text_step(stage, rng) else None
        latents = self.compressor.encode(texts, ratio)
        keep = self._keep(stage, rng)
        return latents, dropped(latents, keep, rng.randrange(2**31)), keep

    def _scored(self, batch: Sequence[Example], stage: StageConfig) -> dict[str, Scored]:
        check_alignment(self.reader, batch)
        latents = self.compressor.encode([example.context for example in batch])
        step = Step(self.compressor, self.reader, batch, latents, self.step, stage.steps)
        return {"": step.scored}

    def _written(self, batch: Sequence[Example]) -> dict[str, list[str]]:
        latents = self.compressor.encode([example.context for example in batch])
        with self.compressor.attached(latents):
            endings = [self.reader.tokens(example.ending) for example in batch]
            return {"": write(self.reader, self.compressor.prefix(latents), endings).texts}

    def _save(self, more: dict[str, Any]) -> None:
        save_compressor(self.files.compressor, self.compressor, self.reader, more)

    def _load(self) -> Compressor:
        return load_compressor(self.files.compressor, self.reader)[0]


def _check_stages(config: TrainConfig) -> None:
    """Refuse what looks at single slots, where none says anything alone."""
    for stage in config.stages:
        words = f"stage {stage.name!r}: expected"
        pooler = config.compressor.pooler.name
        if stage.keep < 1 or stage.text_steps != TextStepsConfig():
            raise ConfigError(
                f"{words} keep 1 and no text_steps with pooler {pooler}, none of whose slots can "
                "be left out"
            )
        for term in stage.losses:
            if term.name in SLOT_TERMS:
                raise ConfigError(
                    f"{words} no term {term.name} with pooler {pooler}, whose slots say nothing "
                    "alone"
                )


def dropped(latents: Latents, keep: float, seed: int) -> Latents:
    """Latents of which a share is left out at random, at least one slot of every text kept."""
    if keep >= 1.0:
        return latents
    draw = torch.Generator().manual_seed(seed)
    chance = torch.rand(latents.mask.shape, generator=draw).to(latents.mask.device)
    kept = latents.mask & (chance < keep)
    # Where none is left the first one stays.
    kept[:, 0] |= ~kept.any(1)
    order = (~kept).long().argsort(dim=1, stable=True)
    counts = kept.sum(1)
    values = latents.values.gather(1, order[..., None].expand_as(latents.values))
    mask = slot_mask(counts)
    return Latents(values[:, : mask.shape[1]] * mask[..., None], mask)
