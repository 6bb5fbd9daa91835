"""TrainingLoop: the steps of a training, resumable bit by bit, whatever is trained."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from llgbm.deltas.atomic import save_tensors, write_json
from llgbm.deltas.errors import RunError, mismatch
from llgbm.deltas.json_files import read_json
from llgbm.deltas.metrics_log import MetricsLog
from llgbm.deltas.probe_names import named_probes
from llgbm.deltas.tensor_state import load_training_state, read_tensors, training_state
from llgbm.deltas.tokenizers import tokenizer_of
from llgbm.generators.conditions import ConditionBatch, embed_conditions
from llgbm.generators.dataset import TeacherBatch, TeacherDataset
from llgbm.generators.generator import GeneratorOutput
from llgbm.generators.losses import Step
from llgbm.generators.runs import FINISHED, RunFolder
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import TrainingInputs
from llgbm.generators.training.noise import with_noise
from llgbm.generators.training.settings import TrainingSettings
from llgbm.generators.training.task_loss import TaskExamples

SETTINGS = "training.json"


def learning_rate(config: TrainingSettings, step: int) -> float:
    """Linear warm-up, then a cosine down to a twentieth of the peak."""
    warmup = config.chosen_warmup
    if step < warmup:
        return config.lr * (step + 1) / warmup
    share = (step - warmup) / max(1, config.steps - warmup)
    return config.lr * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * share)))


def check_settings(path: Path, config: TrainingSettings) -> None:
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


class TrainingLoop(ABC):
    """One training run: everything a step needs is a function of (config, step).

    Args:
        config: settings.
        inputs: teachers and their conditions.
        model: the frozen base.
        run: folder of the run.

    Attributes:
        kind: for the progress bar.
        module: what is trained.
    """

    kind: ClassVar[str] = "training"

    def __init__(
        self, config: TrainingSettings, inputs: TrainingInputs, model: nn.Module, run: RunFolder
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
        self.module = self.new_module()
        self.trained = [each for each in self.module.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        self.prepared, self.prepared_optimizer = self.accelerator.prepare(
            self.module, self.optimizer
        )
        self.step = 0
        self.best = -math.inf
        # Of training steps alone, over interruptions; validation is not counted.
        self.seconds = 0.0

    def metadata(self) -> dict[str, Any]:
        """What travels with what is trained: its base, and how it was trained."""
        return {
            "base_model": self.inputs.manifest.base_model,
            "base_fingerprint": self.inputs.manifest.base_fingerprint,
            "training": self.config.settings(),
        }

    @abstractmethod
    def new_module(self) -> nn.Module:
        """Build what is trained, with seeded parameters and the teachers' scales."""

    @abstractmethod
    def output(self, batch: TeacherBatch) -> GeneratorOutput:
        """What it says of a step's items."""

    @abstractmethod
    def validate(self) -> tuple[list[dict[str, Any]], float]:
        """Measure what was not trained on.

        Returns:
            Records for metrics.jsonl, and the number that the best step is chosen by.
        """

    @abstractmethod
    def save(self) -> None:
        """Write what is trained to `folder`."""

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
            desc=config.name if config.name == self.kind else f"{self.kind} {config.name}",
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
                self._check_finite("loss", record["loss"])
                if log is not None:
                    log.write(record)
                bar.update()
                best = f"{self.best:.3f}" if math.isfinite(self.best) else "-"
                bar.set_postfix(loss=f"{record['loss']:.3f}", best=best, refresh=False)
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
        output = self.output(batch)
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
        self.accelerator.clip_grad_norm_(self.trained, config.clip_norm)
        self.optimizer.step()
        self.step += 1
        named = {"loss": loss.total.detach(), **loss.terms}
        means = self.accelerator.reduce(torch.stack(list(named.values())), "mean").tolist()
        rounded = {name: round(value, 6) for name, value in zip(named, means, strict=True)}
        return {"step": self.step, "split": "train", **rounded}

    def noisy_conditions(self, batch: TeacherBatch) -> ConditionBatch:
        """Embedded conditions of a step, on the device."""
        conditions = embed_conditions(batch.conditions, self.encoder, self.embeddings)
        share, seed = self.config.condition_noise, self.config.seed
        return with_noise(conditions, batch.positions, share, seed).to(self.device)

    def _validate(self, log: MetricsLog) -> None:
        """Measure; keep the best."""
        records, deciding = self.validate()
        for record in records:
            log.write(record)
        # The last step has no loss after it that would tell.
        self._check_finite("validation", deciding)
        if self.step > 0 and deciding > self.best:
            self.best = deciding
            self.save()

    def _check_finite(self, what: str, value: float) -> None:
        if not math.isfinite(value):
            raise RunError(
                f"{self.folder}: step {self.step}: {what}: expected a finite number, got {value}: "
                "lower --lr, or begin with another name"
            )

    def _state_path(self) -> Path:
        return self.folder / "state" / "state.safetensors"

    def _buffers(self) -> dict[str, Tensor]:
        """Numbers that training moves and that are no parameters, such as a codebook's."""
        return {f"buffer.{name}": value for name, value in self.module.named_buffers()}

    def _save_state(self) -> None:
        if self.accelerator.is_main_process:
            tensors = training_state(self.optimizer, self.trained)
            tensors |= {name: value.contiguous() for name, value in self._buffers().items()}
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
        load_training_state(tensors, self.optimizer, self.trained)
        for name, value in self._buffers().items():
            if name in tensors:
                value.copy_(tensors[name])
        self.step, self.best = int(tensors["step"]), float(tensors["best"])
        self.seconds = float(tensors.get("seconds", 0.0))
