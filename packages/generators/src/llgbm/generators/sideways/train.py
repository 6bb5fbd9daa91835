"""`llgbm sideways train`: fit the latent space to some runs of a collection."""

from __future__ import annotations

import copy
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from llgbm.deltas import atomic
from llgbm.deltas.atomic import write_json
from llgbm.deltas.environment import environment
from llgbm.deltas.errors import RunError
from llgbm.deltas.metrics_log import MetricsLog
from llgbm.generators.sideways.collection.collection import Collection
from llgbm.generators.sideways.collection.split import split_runs
from llgbm.generators.sideways.model.basis import fit_basis
from llgbm.generators.sideways.model.config import SidewaysTraining
from llgbm.generators.sideways.model.files import (
    BASIS,
    SidewaysModel,
    load_sideways,
    save_sideways,
)
from llgbm.generators.sideways.model.loss import sideways_terms, weighted
from llgbm.generators.sideways.model.sideways_vae import SidewaysVAE
from llgbm.generators.sideways.model.table import CheckpointTable

# Two span one direction.
FEWEST_CHECKPOINTS = 2
METRICS, FINISHED = "metrics.jsonl", "finished.json"


@dataclass(frozen=True)
class SidewaysTrainConfig:
    """Fit a latent space of checkpoints.

    Args:
        collection: folder that `llgbm sideways collect` made.
        out: folder of the model; COLLECTION/model where not given.
        training: how.
        overwrite: replace `out` where it exists.
    """

    collection: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    training: SidewaysTraining = field(default_factory=SidewaysTraining)
    overwrite: bool = False

    @property
    def folder(self) -> Path:
        """Of the model."""
        return self.out or self.collection / "model"


def train_sideways(config: SidewaysTrainConfig) -> SidewaysModel:
    """Fit and write a model; print how it does on the validation runs.

    Raises:
        RunError: no collection, one of too few runs, or `out` exists.
    """
    _check_replaced(config)
    collection = Collection.read(config.collection)
    model = fit_sideways(collection, config.folder, config.training)
    print(f"{config.folder}: next: llgbm sideways predict {config.folder}")
    return model


def _check_replaced(config: SidewaysTrainConfig) -> None:
    """Refuse to replace anything but a model."""
    folder = config.folder
    if config.collection.resolve().is_relative_to(folder.resolve()):
        raise RunError(f"out: expected a folder without the collection in it, got {folder}")
    if not folder.exists():
        return
    if not config.overwrite:
        raise RunError(f"{folder}: exists: give --overwrite to replace it")
    is_model = folder.is_dir() and (folder / FINISHED).exists() and (folder / BASIS).exists()
    if not is_model and not (folder.is_dir() and not any(folder.iterdir())):
        raise RunError(f"{folder}: expected a sideways model to overwrite, got something else")


def fit_sideways(collection: Collection, folder: Path, training: SidewaysTraining) -> SidewaysModel:
    """Fit to the training runs, keep the step that does best on the validation runs.

    Args:
        collection: checkpoints of at least three runs.
        folder: of the model; it appears whole or not at all, in the place of one that is there.
        training: settings.

    Raises:
        RunError: too few runs, or a loss that is not finite.
    """
    began = time.perf_counter()
    split = split_runs(collection, training.seed, training.test_share)
    places = split.places(collection, "train")
    if len(places) < FEWEST_CHECKPOINTS:
        raise RunError(
            f"{collection.folder}: checkpoints to train on: expected at least "
            f"{FEWEST_CHECKPOINTS}, got {len(places)} of {len(split.train)} runs"
        )
    basis = fit_basis(collection, places, training.sizes.directions)
    seen = CheckpointTable.of(basis, collection, places)
    chosen_by = CheckpointTable.of(basis, collection, split.places(collection, "validation"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        vae = SidewaysVAE(
            training.sizes,
            len(collection.blocks),
            basis.k,
            len(collection.metrics),
            len(collection.hyperparameters),
        )
    vae.fit_scales(seen)
    with atomic.folder(folder) as new:
        vae.load_state_dict(_fit(vae, seen, chosen_by, training, new))
        vae.eval()
        with torch.no_grad():
            _fit_errors(vae, chosen_by)
        model = SidewaysModel(
            new, vae, basis, collection.metrics, collection.hyperparameters, split, collection
        )
        save_sideways(model, training.sizes, asdict(training))
        write_json(
            new / FINISHED,
            {
                "parameters": sum(each.numel() for each in vae.parameters()),
                "seconds": round(time.perf_counter() - began, 1),
                "environment": environment(training.seed, torch.device("cpu"), torch.float32),
            },
        )
    return load_sideways(folder)


def _fit(
    vae: SidewaysVAE,
    seen: CheckpointTable,
    chosen_by: CheckpointTable,
    training: SidewaysTraining,
    folder: Path,
) -> dict[str, Tensor]:
    """Optimise; return the best state by the validation runs' metrics."""
    generator = torch.Generator().manual_seed(training.seed)
    runs = list(seen.by_run().values())
    # A Bayesian bootstrap: how much every member of the ensemble sees of each run.
    weights = -torch.rand(training.sizes.members, len(runs), generator=generator).log()
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=training.lr, weight_decay=training.weight_decay
    )
    log = MetricsLog(folder / METRICS, -1)
    best_error, best = math.inf, copy.deepcopy(vae.state_dict())
    bar = tqdm(range(training.steps), desc="sideways", unit="step", mininterval=1.0)
    for step in bar:
        vae.train()
        drawn = torch.randperm(len(runs), generator=generator)[: training.runs_per_step].tolist()
        rows = [row for run in drawn for row in runs[run]]
        owner = [run for run in drawn for _ in runs[run]]
        terms = sideways_terms(vae, seen.select(rows), weights[:, owner], training.noise, generator)
        loss = weighted(terms, training.weights)
        if not torch.isfinite(loss):
            raise RunError(f"step {step + 1}: expected a finite loss, got NaN or Inf: lower lr")
        for group in optimizer.param_groups:
            group["lr"] = training.lr * 0.5 * (1 + math.cos(math.pi * step / training.steps))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        record: dict[str, Any] = {name: float(term.detach()) for name, term in terms.items()}
        log.write({"step": step + 1, "split": "train", "loss": float(loss.detach()), **record})
        if (step + 1) % training.validate_every == 0 or step + 1 == training.steps:
            vae.eval()
            with torch.no_grad():
                error = float(_errors(vae, chosen_by).square().mean())
            log.write({"step": step + 1, "split": "validation", "metric": error})
            bar.set_postfix(validation=f"{error:.3f}", refresh=False)
            if error < best_error:
                best_error, best = error, copy.deepcopy(vae.state_dict())
    return best


def _fit_errors(vae: SidewaysVAE, table: CheckpointTable) -> None:
    """Take what predictions miss of runs that were not trained on into their standard errors."""
    missed = _errors(vae, table)
    vae.predictor.left_out.copy_(missed.square().mean(0).sqrt())
    moved = moved_errors(vae, table)
    if len(moved):
        missed = moved
    vae.predictor.left_out_moved.copy_(missed.square().mean(0).sqrt())


def moved_errors(vae: SidewaysVAE, table: CheckpointTable) -> Tensor:
    """Predicted minus measured metrics of all later checkpoints of runs, from the first.

    Standardised, [n, m].
    """
    numbers = vae.hyperparameter_scale(table.hyperparameters)
    wanted = vae.metric_scale(table.metrics)
    missed = [wanted[:0]]
    for rows in table.by_run().values():
        first = vae.encode(table.coefficients[rows[:1]], table.statistics[rows[:1]])
        moved = vae.dynamics.roll_out(first, numbers[rows[:1]], table.time[rows].tolist())
        missed.append(vae.predictor(moved[0, 1:])[0] - wanted[rows[1:]])
    return torch.cat(missed)


def _errors(vae: SidewaysVAE, table: CheckpointTable) -> Tensor:
    """Predicted minus measured metrics, standardised, [n, m]."""
    z = vae.encode(table.coefficients, table.statistics)
    predicted: Tensor = vae.predictor(z)[0] - vae.metric_scale(table.metrics)
    return predicted
