"""`llgbm search`: the latent that does best on the validation examples of a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from tqdm import tqdm

from llgbm.deltas.errors import SettingError, require_at_least, require_seed
from llgbm.deltas.peft_format import check_output
from llgbm.deltas.spec import device_of
from llgbm.deltas.task import Example
from llgbm.deltas.tasks import load_task
from llgbm.generators.conditions import (
    ConditionBatch,
    condition_from_prompts,
    embed_conditions,
)
from llgbm.generators.evaluation.multiple_choice import score_choices
from llgbm.generators.extras import cma_es
from llgbm.generators.run_base import run_base
from llgbm.generators.vae.generator import LoRAGeneratorVAE
from llgbm.generators.vae.tools.latents import NamedLatents

PROMPTS = 8


@dataclass(frozen=True)
class SearchConfig:
    """Search the latent space by CMA-ES for a task, starting from what its prompts ask for.

    Args:
        task: packaged name, JSON/JSONL file or hub data set.
        vae: run folder, or the folder of one trained VAE.
        out: folder of the adapter found.
        generations: of CMA-ES; 0 writes the start.
        population: adapters of a generation, scored in one forward.
        sigma: first step, in units of the prior's own spread around the start; at most 100.
        examples: validation examples scored.
        seed: of CMA-ES and of the task's splits.
        overwrite: replace `out` where it exists.
    """

    task: Annotated[str, tyro.conf.Positional]
    vae: Path = Path("runs/demo")
    out: Path = Path("found-adapter")
    generations: int = 8
    population: int = 8
    sigma: float = 0.5
    examples: int = 32
    seed: int = 0
    overwrite: bool = False

    def __post_init__(self) -> None:
        require_seed(self.seed)
        require_at_least(0, generations=self.generations)
        require_at_least(4, population=self.population)
        require_at_least(1, examples=self.examples)
        # CMA-ES has no numbers for steps that are far larger.
        if not 0 < self.sigma <= 100:
            raise SettingError(f"sigma: expected more than 0, at most 100, got {self.sigma:g}")


@dataclass(frozen=True)
class Found:
    """What a search ends with.

    Attributes:
        z: [size], the best latent scored.
        scores: of the start and of the best of each generation, mean log-likelihood of the right
            choice among the choices, nats.
        start: accuracy at the start on examples that the search did not see.
        end: at the end, on the same.
    """

    z: Tensor
    scores: list[float]
    start: float
    end: float


def search(config: SearchConfig) -> Found:
    """Search, write the best adapter.

    Raises:
        RunError: no VAE, or its base model has other weights now.
        TaskError: an unknown task, or one without choices.
        AdapterError: `out` exists.
        SettingError: cmaes is not installed.
    """
    check_output(config.out, config.overwrite)
    named = NamedLatents(config.vae)
    task = load_task(config.task, seed=config.seed)
    task.require_choices()
    model, tokenizer = run_base(named.folder, named.base_model, named.base_fingerprint)
    found = search_latents(config, named.vae, named.encoder, task.validation, task.test, model,
                           tokenizer)  # fmt: skip
    with torch.no_grad():
        named.write(named.vae.generate_from_z(found.z[None]), [config.out])
    print(
        f"{config.out}: {found.scores[0]:.3f} to {max(found.scores):.3f} nats on validation, "
        f"accuracy {found.start:.3f} to {found.end:.3f} on test examples it did not see"
    )
    return found


def search_latents(
    config: SearchConfig,
    vae: LoRAGeneratorVAE,
    encoder: Any,
    validation: Sequence[Example],
    test: Sequence[Example],
    model: nn.Module,
    tokenizer: Any,
) -> Found:
    """Run CMA-ES (its separable form: a latent of many numbers has too large a covariance).

    The score is the log-likelihood that the right choice has among all, per character: smoother
    than the accuracy of a few examples.

    Args:
        config: settings.
        vae: whose latents are searched, on the CPU.
        encoder: of texts.
        validation: the first make the condition, the next are scored.
        test: scored at the start and at the end.
        model: frozen base.
        tokenizer: of the base.
    """
    optimizer_type = cma_es("vae").SepCMA
    told = condition_from_prompts([example.query for example in validation[:PROMPTS]])
    condition = embed_conditions([told], encoder, None)
    start = vae.centre(condition)[0]
    spread = _spread(vae, condition)
    scored = validation[PROMPTS : PROMPTS + config.examples] or validation
    optimizer = optimizer_type(
        mean=np.zeros(len(start)),
        sigma=config.sigma,
        seed=config.seed,
        population_size=config.population,
    )

    def score(latents: Tensor) -> list[float]:
        with torch.no_grad():
            weights = vae.generate_from_z(latents).to(device_of(model))
            found = score_choices(model, tokenizer, scored, weights)
        return found.right_choice().mean(1).tolist()

    best, scores = start, score(start[None])
    for _ in tqdm(range(config.generations), desc="search", unit="generation", mininterval=1.0):
        asked = [optimizer.ask() for _ in range(config.population)]
        latents = start + spread * torch.tensor(np.stack(asked), dtype=start.dtype)
        values = score(latents)
        optimizer.tell([(x, -value) for x, value in zip(asked, values, strict=True)])
        top = int(np.argmax(values))
        if values[top] > max(scores):
            best = latents[top]
        scores.append(values[top])
    with torch.no_grad():
        both = vae.generate_from_z(torch.stack([start, best])).to(device_of(model))
        right = score_choices(model, tokenizer, test[: 3 * config.examples], both).correct()
    first, last = right.float().mean(1).tolist()
    return Found(best, scores, first, last)


def _spread(vae: LoRAGeneratorVAE, condition: ConditionBatch) -> Tensor:
    """Standard deviation of each number of the latent for a condition, from draws of it."""
    many = ConditionBatch(condition.embeddings.expand(64, -1, -1), condition.mask.expand(64, -1))
    drawn = vae.sample(many, torch.Generator().manual_seed(0))
    return drawn.std(0).clamp_min(1e-3)
