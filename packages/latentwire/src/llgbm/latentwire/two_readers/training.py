"""The training of a compressor for two readers together."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llgbm.latentwire.alignment import check_alignment
from llgbm.latentwire.examples import Example
from llgbm.latentwire.generation import write
from llgbm.latentwire.latents import Latents
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader
from llgbm.latentwire.scoring import Scored
from llgbm.latentwire.training.config import StageConfig
from llgbm.latentwire.training.files import load_compressor
from llgbm.latentwire.training.loop import dropped
from llgbm.latentwire.training.stages import Training
from llgbm.latentwire.training.step_losses import Losses
from llgbm.latentwire.two_readers.compressor import SharedCompressor
from llgbm.latentwire.two_readers.config import TwoReadersConfig
from llgbm.latentwire.two_readers.files import load_shared, save_shared
from llgbm.latentwire.two_readers.layout import FIRST, READERS, SECOND
from llgbm.latentwire.two_readers.objective import SharedObjective
from llgbm.latentwire.two_readers.view import View


class SharedTraining(Training[SharedCompressor, SharedObjective]):
    """Both readers answer the same examples at every step; the loss is the mean of theirs.

    Args:
        config: settings.
        first: frozen.
        second: frozen.
        folder: of the run; one with the same settings is resumed.
        overwrite: remove a run that is there first.

    Raises:
        RunError: the folder holds another run.
        ConfigError: parts that do not fit each other.
    """

    def __init__(
        self,
        config: TwoReadersConfig,
        first: Reader,
        second: Reader,
        folder: Path,
        overwrite: bool = False,
    ) -> None:
        compressor = SharedCompressor(config.compressor, first, second, config.seed)
        if config.start_from:
            compressor.take_over(load_compressor(Path(config.start_from), first)[0])
        super().__init__(config, compressor, first, folder, overwrite)
        self.readers = compressor.readers
        self.views = {name: View(compressor, name) for name in READERS}

    def _fit_parts(self, texts: Sequence[str]) -> None:
        if self.config.start_from:
            # What was taken over is fitted and trained; the way to the second reader is not.
            self.compressor.fit_second(texts)
        else:
            self.compressor.fit(texts)

    def _objective(self, stage: StageConfig) -> SharedObjective:
        return SharedObjective(stage.losses, self.compressor)

    def _losses(
        self,
        stage: StageConfig,
        examples: Sequence[Example],
        objective: SharedObjective,
        rng: random.Random,
    ) -> Losses:
        texts = [example.context for example in examples]
        if self._is_text_step(stage, rng):
            ordered = self.compressor.encode_uncompressed(texts)
            seen = dict.fromkeys(READERS, ordered)
        else:
            latents = self.compressor.encode(texts)
            seen = {name: view.seen(latents) for name, view in self.views.items()}
            # Terms that ask where a slot stands are told of those in the order of the text.
            ordered = self.compressor.config.layout.shared(latents)
        keep = self._keep(stage, rng)
        steps = {}
        for name, view in self.views.items():
            reader = self.readers[name]
            check_alignment(reader, examples)
            kept = dropped(seen[name], keep, rng.randrange(2**31))
            steps[name] = Step(
                view, reader, examples, kept, self.step, stage.steps,
                rng.randrange(2**31), ordered,
            )  # fmt: skip
        values, log = objective.contributions(steps)
        return Losses(values, log, steps, keep)

    def _scored(self, batch: Sequence[Example], stage: StageConfig) -> dict[str, Scored]:
        seen = self._seen([example.context for example in batch])
        scored = {}
        for name, view in self.views.items():
            reader = self.readers[name]
            check_alignment(reader, batch)
            step = Step(view, reader, batch, seen[name], self.step, stage.steps)
            scored[name] = step.scored
        return scored

    def _written(self, batch: Sequence[Example]) -> dict[str, list[str]]:
        seen = self._seen([example.context for example in batch])
        texts = {}
        for name, view in self.views.items():
            reader = self.readers[name]
            endings = [reader.tokens(example.ending) for example in batch]
            with view.attached(seen[name]):
                texts[name] = write(reader, view.prefix(seen[name]), endings).texts
        return texts

    def _seen(self, texts: Sequence[str]) -> dict[str, Latents]:
        """What each reader sees of b texts, which are encoded once."""
        latents = self.compressor.encode(texts)
        return {name: view.seen(latents) for name, view in self.views.items()}

    def _save(self, more: dict[str, Any]) -> None:
        save_shared(self.files.compressor, self.compressor, more)

    def _load(self) -> SharedCompressor:
        return load_shared(self.files.compressor, self.readers[FIRST], self.readers[SECOND])
