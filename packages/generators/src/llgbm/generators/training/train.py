"""`llgbm train`: learn to write adapters whose behaviour is the teachers'."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from llgbm.deltas.atomic import save_tensors, write_json
from llgbm.deltas.base_models import load_base_model
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.processes import current_processes
from llgbm.deltas.tokenizers import tokenizer_of
from llgbm.generators.conditions import embed_conditions
from llgbm.generators.dataset import TeacherDataset
from llgbm.generators.generator import GeneratorConfig, LoRAGenerator
from llgbm.generators.losses import Step
from llgbm.generators.runs import FINISHED, RunFolder
from llgbm.generators.tensor_state import load_training_state, read_tensors, training_state
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.config import TrainConfig
from llgbm.generators.training.inputs import TrainingInputs, cached_spec, inputs_of
from llgbm.generators.training.metrics_log import MetricsLog
from llgbm.generators.training.model_targets import with_model_targets
from llgbm.generators.training.noise import with_noise
from llgbm.generators.training.task_loss import TaskExamples
from llgbm.generators.training.validation import Validation

SETTINGS = "training.json"


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return config.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


def train(
    config: TrainConfig, model: nn.Module | None = None, inputs: TrainingInputs | None = None
) -> Path:
    """Train a generator, or go on with one; return its folder.

    Args:
        config: settings.
        model: the loaded base; loaded here where None.
        inputs: of the training, where they have been collected already.

    Raises:
        RunError: parts of the run, such as its delta cache, are missing, or the folder holds
            other settings.
        CacheError: another delta cache, or an incomplete one.
    """
    run = RunFolder(config.run)
    folder = run.generator(config.name)
    if config.deltas is None:
        config = replace(config, deltas=cached_spec(run, config.delta_cache))
    _check_settings(folder / SETTINGS, config)
    inputs = inputs or inputs_of(config)
    if (folder / FINISHED).exists() and (folder / "generator.safetensors").exists():
        return folder
    processes = current_processes()
    if model is None:
        model, _ = load_base_model(inputs.manifest.base_model, device=processes.device)
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


def _check_settings(path: Path, config: TrainConfig) -> None:
    """Go on only with the settings that the folder was begun with."""
    settings = config.settings()
    if not path.exists():
        return
    saved = read_json(path, RunError)
    for key in sorted(saved.keys() | settings.keys()):
        if saved.get(key) != settings.get(key):
            raise RunError(
                mismatch(path, key, f"{saved.get(key)} as in the run so far", settings.get(key))
                + "; choose another name for other settings"
            )


class Trainer:
    """One training run: everything a step needs is a function of (config, step)."""

    def __init__(
        self, config: TrainConfig, inputs: TrainingInputs, model: nn.Module, run: RunFolder
    ) -> None:
        self.config, self.inputs = config, inputs
        self.objective = config.chosen_objective
        self.folder = run.generator(config.name)
        self.accelerator = Accelerator(
            cpu=next(model.parameters()).device.type == "cpu",
        )
        self.device = self.accelerator.device
        processes = self.accelerator.num_processes
        if config.batch_size % processes:
            raise RunError(
                f"batch_size: expected a multiple of the {processes} processes, "
                f"got {config.batch_size}"
            )
        self.behaviour = Behaviour.of(
            model.to(self.device),
            named_probes(config.probes),
            config.chosen_deltas,
            config.checkpoint,
        )
        shares = {
            "prompts": config.conditions.prompts,
            "prompts_with_answers": config.conditions.prompts_with_answers,
            "description": config.conditions.description,
        }
        self.data = TeacherDataset(
            inputs.weights.to(self.device),
            inputs.prompts,
            inputs.deltas.to(self.device),
            shares,  # type: ignore[arg-type]
            config.condition_texts,
            config.batch_size,
            config.seed,
        )
        self.examples = TaskExamples(
            model,
            tokenizer_of(model),
            inputs.prompts,
            config.sft_examples,
            int(inputs.manifest.settings["optim"]["max_tokens"]),
            config.seed,
        )
        self.encoder = PretrainedTextEncoder(config.encoder, device=self.device)
        self.embeddings = EmbeddingCache(run.embeddings)
        self.embeddings.encode(self.data.texts(), self.encoder)
        self.validation = Validation(inputs, self.encoder, self.embeddings, self.device)
        self.generator = self._new_generator()
        self.optimizer = torch.optim.AdamW(
            self.generator.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        self.prepared, self.prepared_optimizer = self.accelerator.prepare(
            self.generator, self.optimizer
        )
        self.step = 0
        self.best = -math.inf
        # Of training steps alone, over interruptions; validation is not counted.
        self.seconds = 0.0

    def _new_generator(self) -> LoRAGenerator:
        """Build the generator with seeded parameters and the teachers' scales."""
        inputs, config = self.inputs, self.config
        generator = LoRAGenerator(
            GeneratorConfig(decoder=config.decoder, text_encoder=config.encoder),
            inputs.weights.spec,
            tuple(inputs.deltas.shape[1:]),
            config.seed,
        )
        generator.metadata = {
            "base_model": inputs.manifest.base_model,
            "base_fingerprint": inputs.manifest.base_fingerprint,
            "training": config.settings(),
        }
        generator.fit_scales(inputs.weights, inputs.deltas)
        # Processes wait for the gradients of all that is trained.
        generator.delta_head.requires_grad_(self.objective.trains_head)
        return generator

    def fit(self) -> Path:
        """Run to the last step, from the saved state where there is one."""
        config = self.config
        self._load_state()
        main = self.accelerator.is_main_process
        # A run killed before its first state validates its start again.
        log = MetricsLog(self.folder / "metrics.jsonl", self.step or -1) if main else None
        bar = tqdm(
            total=config.steps,
            initial=self.step,
            desc=f"generator {config.name}",
            unit="step",
            mininterval=1.0,
            disable=not main,
        )
        with bar:
            if self.step == 0 and log is not None:
                self._validate(log)
            while self.step < config.steps:
                start = time.perf_counter()
                record = self.train_step()
                self.seconds += time.perf_counter() - start
                if not math.isfinite(record["loss"]):
                    raise RunError(
                        f"{self.folder}: step {self.step}: loss: expected a finite number, got "
                        f"{record['loss']}: lower --lr, or begin with another name"
                    )
                if log is not None:
                    log.write(record)
                bar.update()
                bar.set_postfix(
                    loss=f"{record['loss']:.3f}", best=f"{self.best:.3f}", refresh=False
                )
                due = self.step % config.validate_every == 0 or self.step == config.steps
                if due and log is not None:
                    self._validate(log)
                if self.step % config.save_every == 0 and self.step < config.steps:
                    self._save_state()
        if self.accelerator.is_main_process:
            # The state is three times the generator's size, and nothing is left to go on with.
            steps = range(self.step)
            finished = {
                "steps": self.step,
                "best": self.best,
                "seconds": round(self.seconds, 2),
                "steps_on_probes": sum(self.objective.runs_base(step) for step in steps),
                "steps_on_tasks": sum(self.objective.runs_tasks(step) for step in steps),
            }
            write_json(self.folder / FINISHED, finished)
            self._state_path().unlink(missing_ok=True)
        self.accelerator.wait_for_everyone()
        return self.folder

    def train_step(self) -> dict[str, Any]:
        """Take one optimiser step; return its record."""
        config = self.config
        batch = self.data.batch(
            self.step, self.accelerator.process_index, self.accelerator.num_processes
        )
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step)
        conditions = embed_conditions(batch.conditions, self.encoder, self.embeddings)
        noisy = with_noise(conditions, batch.positions, config.condition_noise, config.seed)
        output = self.prepared(noisy.to(self.device))
        shared = self.accelerator.num_processes > 1
        whole = self.data.batch(self.step) if shared else None
        loss = self.objective(
            Step(
                self.step,
                output,
                batch.weights.to(self.device),
                batch.deltas.to(self.device),
                self.behaviour,
                lambda weights: self.examples.loss(weights, batch),
                None if whole is None else whole.weights.to(self.device),
                None if whole is None else whole.deltas.to(self.device),
            )
        )
        self.optimizer.zero_grad(set_to_none=True)
        # A step whose terms leave the head out still has gradients for it, of zero.
        total = loss.total + 0 * output.delta.sum() if self.objective.trains_head else loss.total
        self.accelerator.backward(total)
        self.accelerator.clip_grad_norm_(self.prepared.parameters(), config.clip_norm)
        self.optimizer.step()
        self.step += 1
        named = {"loss": loss.total.detach(), **loss.terms}
        means = self.accelerator.reduce(torch.stack(list(named.values())), "mean").tolist()
        rounded = {name: round(value, 6) for name, value in zip(named, means, strict=True)}
        return {"step": self.step, "split": "train", **rounded}

    def _validate(self, log: MetricsLog) -> None:
        """Measure unseen conditions; keep the best."""
        records = self.validation.measure(self.generator, self.behaviour, self.step)
        for record in records.values():
            log.write(record)
        cosine = self.validation.deciding(records)
        if self.step > 0 and cosine > self.best:
            self.best = cosine
            self.generator.save(self.folder)

    def _state_path(self) -> Path:
        return self.folder / "state" / "state.safetensors"

    def _save_state(self) -> None:
        if self.accelerator.is_main_process:
            tensors = training_state(self.optimizer, list(self.generator.parameters()))
            tensors["step"] = torch.tensor(self.step)
            tensors["best"] = torch.tensor(self.best, dtype=torch.float64)
            tensors["seconds"] = torch.tensor(self.seconds, dtype=torch.float64)
            save_tensors(self._state_path(), tensors)
        self.accelerator.wait_for_everyone()

    def _load_state(self) -> None:
        path = self._state_path()
        if not path.exists():
            return
        tensors = read_tensors(path)
        load_training_state(tensors, self.optimizer, list(self.generator.parameters()))
        self.step, self.best = int(tensors["step"]), float(tensors["best"])
        self.seconds = float(tensors.get("seconds", 0.0))
