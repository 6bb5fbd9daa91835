"""`llgbm train-vae`: learn a latent space of the teachers of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from llgbm.deltas.atomic import write_json
from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.processes import current_processes
from llgbm.generators.dataset import TeacherBatch
from llgbm.generators.runs import FINISHED, RunFolder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import TrainingInputs, cached_spec, inputs_of
from llgbm.generators.training.loop import SETTINGS, TrainingLoop, check_settings
from llgbm.generators.vae.augment import augmented, with_noise
from llgbm.generators.vae.files import TENSORS, save_vae
from llgbm.generators.vae.generator import LoRAGeneratorVAE, VAEOutput
from llgbm.generators.vae.held_out import HeldOutTeachers, keep_back
from llgbm.generators.vae.train_config import VAETrainConfig
from llgbm.generators.vae.transfer import Transfer
from llgbm.generators.vae.validation import VAEValidation

# Seeds of an item's draws: beside those of its condition, which start at 0.
NOISE_SEED = 7_919


def train_vae(
    config: VAETrainConfig, model: nn.Module | None = None, inputs: TrainingInputs | None = None
) -> Path:
    """Train a VAE, or go on with one; return its folder.

    Args:
        config: settings.
        model: the loaded base; loaded here where None.
        inputs: of the training, where they have been collected already.

    Raises:
        RunError: parts of the run are missing, the folder holds other settings, a task has too
            few teachers to hold any out, or the base model is not the teachers'.
        CacheError: another delta cache, or an incomplete one.
    """
    run = RunFolder(config.run)
    folder = run.generator(config.name)
    if config.deltas is None:
        config = replace(config, deltas=cached_spec(run, config.delta_cache))
    transfer = None
    if config.transfer_from is not None and config.sources is not None:
        transfer = Transfer.of(config.transfer_from, config.sources)
        config = replace(config, vae=transfer.vae.config)
    check_settings(folder / SETTINGS, config)
    inputs = inputs or inputs_of(config)
    if (folder / FINISHED).exists() and (folder / TENSORS).exists():
        return folder
    if transfer is not None:
        inputs = transfer.with_sources(inputs)
    kept, held_out = keep_back(inputs, config.hold_out)
    model, _ = inputs.manifest.base(run.manifest, model, device=current_processes().device)
    behaviour = Behaviour.of(model, named_probes(config.probes), config.chosen_deltas)

    def behave(adapters: Any) -> Tensor:
        return behaviour(adapters.to(next(model.parameters()).device))

    parts = {"held_out": held_out}
    families = family_teachers(config, inputs, run, transfer)
    if families is not None:
        parts["validation_family"] = families
    made = augmented(kept, config.augment, behave, config.seed, run)
    trainer = VAETrainer(config, made, parts, model, run, transfer)
    if trainer.accelerator.is_main_process:
        write_json(folder / SETTINGS, config.settings())
    budget = ", ".join(f"{k} {v:,}" for k, v in trainer.vae.parameters_of_parts().items() if v)
    trainer.accelerator.print(f"parameters: {trainer.vae.parameter_count:,} ({budget})")
    trainer.fit()
    trainer.accelerator.print(f"{folder}: best update cosine on held-out {trainer.best:.3f}")
    return folder


def family_teachers(
    config: VAETrainConfig,
    inputs: TrainingInputs,
    run: RunFolder,
    transfer: Transfer | None = None,
) -> HeldOutTeachers | None:
    """Teachers of the validation families, where the run has some."""
    entries = inputs.manifest.of_split("validation")
    if not entries or inputs.families is None:
        return None
    cache = DeltaCache.open(
        run.delta_cache(config.delta_cache),
        inputs.manifest.base_fingerprint,
        named_probes(config.probes),
        config.chosen_deltas,
        inputs.manifest.base_model,
    )
    told = dict(zip(inputs.families.tasks, inputs.families.conditions, strict=True))
    return HeldOutTeachers(
        tuple(entry.task for entry in entries),
        inputs.manifest.load(run.checkpoints, entries),
        cache.load_all({entry.id: entry.fingerprint for entry in entries}),
        tuple(told[entry.task] for entry in entries),
        None if transfer is None else transfer.sources(entries),
    )


class VAETrainer(TrainingLoop):
    """Training of a VAE; see TrainingLoop.

    Args:
        config: settings.
        inputs: teachers that it sees, and what was made of them.
        parts: split -> teachers that it does not see.
        model: the frozen base.
        run: folder of the run.
        transfer: the VAE whose latents it takes over; it learns its own where None.
    """

    kind: ClassVar[str] = "vae"
    config: VAETrainConfig

    def __init__(
        self,
        config: VAETrainConfig,
        inputs: TrainingInputs,
        parts: Mapping[str, HeldOutTeachers],
        model: nn.Module,
        run: RunFolder,
        transfer: Transfer | None = None,
    ) -> None:
        self.transfer = transfer
        super().__init__(config, inputs, model, run)
        self.validation = VAEValidation(parts, self.encoder, self.embeddings, self.device)

    @property
    def vae(self) -> LoRAGeneratorVAE:
        """What is trained."""
        assert isinstance(self.module, LoRAGeneratorVAE)
        return self.module

    def new_module(self) -> LoRAGeneratorVAE:
        """See TrainingLoop."""
        inputs, config = self.inputs, self.config
        transfer = self.transfer
        vae = LoRAGeneratorVAE(
            config.chosen_vae,
            inputs.weights.spec,
            tuple(inputs.deltas.shape[1:]),
            config.seed,
            None if transfer is None else transfer.vae.source,
        )
        vae.metadata = {**self.metadata(), **(transfer.metadata if transfer else {})}
        # Of the teachers alone: interpolated adapters are factored in another frame.
        teachers = list(range(len(inputs.entries)))
        vae.fit_scales(inputs.weights.select(teachers), inputs.deltas[: len(teachers)])
        if transfer is not None:
            transfer.hand_over(vae)
        return vae

    def output(self, batch: TeacherBatch) -> VAEOutput:
        """See TrainingLoop; what is drawn for an item does not depend on its company."""
        noise, read = [], []
        for place, position in enumerate(batch.positions):
            seed = (self.config.seed * NOISE_SEED + 1) * 1_000_003 + position
            generator = torch.Generator().manual_seed(seed % 2**64)
            noise.append(torch.randn(self.vae.layout.size, generator=generator))
            if self.config.augment.noise:
                one = batch.weights.select([place])
                read.append(with_noise(one, self.config.augment.noise, generator))
        adapters = type(batch.weights).concatenate(read) if read else batch.weights
        if self.transfer is not None and self.inputs.sources is not None:
            adapters = self.inputs.sources.select(list(batch.indices))
            self.transfer.freeze(self.vae)
        output: VAEOutput = self.prepared(
            self.noisy_conditions(batch),
            adapters.to(self.device),
            torch.stack(noise).to(self.device),
            self.config.chosen_objective.lambda_halfway > 0,
        )
        return output

    def validate(self) -> tuple[list[dict[str, Any]], float]:
        """See TrainingLoop: unseen teachers, rebuilt."""
        records = self.validation.measure(self.vae, self.behaviour, self.step)
        return list(records.values()), self.validation.deciding(records)

    def save(self) -> None:
        """See TrainingLoop."""
        save_vae(self.vae, self.folder)
