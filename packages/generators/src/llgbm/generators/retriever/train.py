"""`llgbm train-retriever`: learn which delta a text asks for."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import nn
from tqdm import tqdm

from llgbm.deltas.atomic import write_json
from llgbm.deltas.by_layer import delta_cosine
from llgbm.deltas.delta import DeltaSpec
from llgbm.deltas.errors import (
    RunError,
    SettingError,
    check_name,
    mismatch,
    require_at_least,
    require_seed,
)
from llgbm.deltas.json_files import read_json
from llgbm.deltas.probe_names import named_probes
from llgbm.generators.conditions import embed_conditions
from llgbm.generators.dataset import TeacherDataset
from llgbm.generators.losses import DeltaMSELoss
from llgbm.generators.retriever.predictor import DeltaPredictor, DeltaPredictorConfig
from llgbm.generators.runs import FINISHED, RunFolder
from llgbm.generators.text_encoder import EmbeddingCache, PretrainedTextEncoder
from llgbm.generators.training.config import ConditionShares
from llgbm.generators.training.inputs import TrainingInputs, cached_spec, collect_inputs


@dataclass(frozen=True)
class TrainRetrieverConfig:
    """Train g(condition) -> delta on the teachers of a run; no base model is run.

    Args:
        run: run folder with teachers and a delta cache.
        name: of the retriever.
        steps: optimiser steps.
        batch_size: conditions of a step.
        lr: learning rate of AdamW, with a cosine down to a twentieth.
        weight_decay: of AdamW.
        conditions: kinds of training condition.
        condition_texts: smallest and largest number of texts in a condition.
        probes: of the delta cache.
        deltas: of the delta cache; read off it where None.
        delta_cache: name of the delta cache of the run; the main one where empty.
        encoder: frozen text encoder.
        validate_every: steps between validations; the best by delta cosine is kept, half of it
            that of validation families where there are some.
        seed: of initialisation and data.
    """

    run: Path
    name: str = "retriever"
    steps: int = 400
    batch_size: int = 16
    lr: float = 1e-3
    weight_decay: float = 0.05
    conditions: ConditionShares = field(default_factory=ConditionShares)
    condition_texts: tuple[int, int] = (1, 8)
    probes: str = "generic"
    deltas: Annotated[DeltaSpec | None, tyro.conf.Suppress] = None
    delta_cache: str = ""
    encoder: str = "minilm-l6"
    validate_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(
            1, steps=self.steps, batch_size=self.batch_size, validate_every=self.validate_every
        )
        require_at_least(0, lr=self.lr, weight_decay=self.weight_decay)
        require_seed(self.seed)
        if not 1 <= self.condition_texts[0] <= self.condition_texts[1]:
            raise SettingError(
                f"condition_texts: expected smallest and largest, got {self.condition_texts}"
            )
        check_name("name", self.name)


def train_retriever(config: TrainRetrieverConfig, model: nn.Module | None = None) -> Path:
    """Train a predictor of deltas; return its folder. A finished one is left as it is.

    Args:
        config: settings.
        model: the loaded base; loaded here where None, to check that it is the teachers'.

    Raises:
        RunError: parts of the run are missing, the folder holds other settings, the base model is
            not the teachers', or the training diverges.
        CacheError: the delta cache is missing, another one, or incomplete.
    """
    run = RunFolder(config.run)
    folder = run.retriever(config.name)
    deltas = config.deltas or cached_spec(run, config.delta_cache)
    config = replace(config, deltas=deltas)
    settings = json.loads(json.dumps(asdict(config) | {"run": ""}, default=str))
    if (folder / FINISHED).exists():
        saved = read_json(folder / FINISHED, RunError).get("settings")
        if saved != settings:
            raise RunError(
                mismatch(folder, "settings", saved, settings)
                + "; choose another name for other settings"
            )
        return folder
    inputs = collect_inputs(
        run,
        named_probes(config.probes),
        deltas,
        config.condition_texts[1],
        config.delta_cache,
        config.conditions.validated_by,
    )
    inputs.manifest.base(run.manifest, model)
    best = _fit(config, run, folder, inputs, settings)
    write_json(folder / FINISHED, {"settings": settings, "best": best})
    print(f"{folder}: best delta cosine on validation {best:.3f}")
    return folder


def _fit(
    config: TrainRetrieverConfig,
    run: RunFolder,
    folder: Path,
    inputs: TrainingInputs,
    settings: dict[str, object],
) -> float:
    """Run all steps; the best by validation is written. Returns its cosine."""
    data = TeacherDataset(
        inputs.weights,
        inputs.prompts,
        inputs.deltas,
        asdict(config.conditions),  # type: ignore[arg-type]
        config.condition_texts,
        config.batch_size,
        config.seed,
    )
    encoder, cache = PretrainedTextEncoder(config.encoder), EmbeddingCache(run.embeddings)
    cache.encode(data.texts(), encoder)
    parts = [part for part in (inputs.seen, inputs.families) if part is not None]
    validation = [embed_conditions(part.conditions, encoder, cache) for part in parts]
    predictor = DeltaPredictor(
        DeltaPredictorConfig(text_encoder=config.encoder),
        tuple(inputs.deltas.shape[1:]),
        config.seed,
    )
    predictor.fit_scales(inputs.deltas)
    predictor.metadata = {
        "base_model": inputs.manifest.base_model,
        "base_fingerprint": inputs.manifest.base_fingerprint,
        "training": settings,
    }
    optimizer = torch.optim.AdamW(
        predictor.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, config.steps, eta_min=config.lr / 20
    )
    # In units of deviations from the mean: the mean itself is given.
    loss, unit = DeltaMSELoss(mean_square=1.0), predictor.scale
    best, kept = -math.inf, predictor.state_dict()
    for step in tqdm(range(config.steps), desc=f"retriever {config.name}", mininterval=1.0):
        batch = data.batch(step)
        predicted = predictor(embed_conditions(batch.conditions, encoder, cache))
        optimizer.zero_grad(set_to_none=True)
        loss(predicted / unit, batch.deltas / unit).backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % config.validate_every == 0 or step + 1 == config.steps:
            with torch.no_grad():
                cosines = [
                    delta_cosine(predictor(conditions), part.deltas).mean()
                    for conditions, part in zip(validation, parts, strict=True)
                ]
            # As generators are: by the tasks trained on and by other families alike.
            cosine = float(torch.stack(cosines).mean())
            if not math.isfinite(cosine):
                raise RunError(
                    f"{folder}: step {step + 1}: delta cosine: expected a finite number, got "
                    f"{cosine}: lower --lr"
                )
            if cosine > best:
                best = cosine
                kept = {name: value.clone() for name, value in predictor.state_dict().items()}
    # Only now: what an interrupted call leaves behind must not pass for a trained one.
    predictor.load_state_dict(kept)
    predictor.save(folder)
    return best
