"""`llgbm train`: learn to write adapters whose behaviour is the teachers'."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from llgbm.deltas.atomic import write_json
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.processes import current_processes
from llgbm.generators.dataset import TeacherBatch
from llgbm.generators.generator import GeneratorConfig, GeneratorOutput, LoRAGenerator
from llgbm.generators.runs import FINISHED, RunFolder
from llgbm.generators.training.config import TrainConfig
from llgbm.generators.training.inputs import TrainingInputs, cached_spec, inputs_of
from llgbm.generators.training.loop import SETTINGS, TrainingLoop, check_settings
from llgbm.generators.training.model_targets import with_model_targets
from llgbm.generators.training.validation import Validation


def train(
    config: TrainConfig, model: nn.Module | None = None, inputs: TrainingInputs | None = None
) -> Path:
    """Train a generator, or go on with one; return its folder.

    Args:
        config: settings.
        model: the loaded base; loaded here where None.
        inputs: of the training, where they have been collected already.

    Raises:
        RunError: parts of the run, such as its delta cache, are missing, the folder holds other
            settings, or the base model is not the teachers'.
        CacheError: another delta cache, or an incomplete one.
    """
    run = RunFolder(config.run)
    folder = run.generator(config.name)
    if config.deltas is None:
        config = replace(config, deltas=cached_spec(run, config.delta_cache))
    check_settings(folder / SETTINGS, config)
    inputs = inputs or inputs_of(config)
    if (folder / FINISHED).exists() and (folder / "generator.safetensors").exists():
        return folder
    processes = current_processes()
    model, _ = inputs.manifest.base(run.manifest, model, device=processes.device)
    if config.target_models is not None:
        probes = named_probes(config.probes)
        inputs = with_model_targets(
            inputs,
            run,
            config.target_models,
            probes,
            config.chosen_deltas,
            config.delta_cache,
            model,
            processes,
        )
    trainer = Trainer(config, inputs, model, run)
    # Only now: a run that lacks a part, or settings that fit nothing, leave nothing behind.
    if trainer.accelerator.is_main_process:
        write_json(folder / SETTINGS, config.settings())
    processes = trainer.accelerator.num_processes
    if processes > 1:
        trainer.accelerator.print(f"{config.name}: every step is shared by {processes} processes")
    trainer.fit()
    trainer.accelerator.print(f"{folder}: best delta cosine on validation {trainer.best:.3f}")
    return folder


class Trainer(TrainingLoop):
    """Training of a generator; see TrainingLoop."""

    kind: ClassVar[str] = "generator"
    config: TrainConfig

    def __init__(
        self, config: TrainConfig, inputs: TrainingInputs, model: nn.Module, run: RunFolder
    ) -> None:
        super().__init__(config, inputs, model, run)
        self.validation = Validation(inputs, self.encoder, self.embeddings, self.device)

    @property
    def generator(self) -> LoRAGenerator:
        """What is trained."""
        assert isinstance(self.module, LoRAGenerator)
        return self.module

    def new_module(self) -> LoRAGenerator:
        """See TrainingLoop."""
        inputs, config = self.inputs, self.config
        generator = LoRAGenerator(
            GeneratorConfig(decoder=config.decoder, text_encoder=config.encoder),
            inputs.weights.spec,
            tuple(inputs.deltas.shape[1:]),
            config.seed,
        )
        generator.metadata = self.metadata()
        generator.fit_scales(inputs.weights, inputs.deltas)
        # Processes wait for the gradients of all that is trained.
        generator.delta_head.requires_grad_(self.objective.trains_head)
        return generator

    def output(self, batch: TeacherBatch) -> GeneratorOutput:
        """See TrainingLoop."""
        output: GeneratorOutput = self.prepared(self.noisy_conditions(batch))
        return output

    def validate(self) -> tuple[list[dict[str, Any]], float]:
        """See TrainingLoop: unseen conditions."""
        records = self.validation.measure(self.generator, self.behaviour, self.step)
        return list(records.values()), self.validation.deciding(records)

    def save(self) -> None:
        """See TrainingLoop."""
        self.generator.save(self.folder)
