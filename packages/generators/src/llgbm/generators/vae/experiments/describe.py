"""What a trained VAE's latent holds, read off teachers that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor

from llgbm.deltas.errors import RunError
from llgbm.deltas.json_files import read_json
from llgbm.generators.conditions import ConditionBatch
from llgbm.generators.losses.update_cosine import update_cosine
from llgbm.generators.runs import FINISHED
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.vae.experiments.codes import code_task_information, codes_of_tasks
from llgbm.generators.vae.experiments.layers import ablate_layers
from llgbm.generators.vae.experiments.measure import latent_silhouette
from llgbm.generators.vae.experiments.results import LatentFound, LatentMap
from llgbm.generators.vae.generator import LoRAGeneratorVAE
from llgbm.generators.vae.held_out import HeldOutTeachers
from llgbm.generators.vae.latent import Latent
from llgbm.generators.vae.readings import active_units, codebook_use, mutual_information

# Samples for one condition, where diversity is measured.
SAMPLES = 6
# Parts whose tasks were trained on.
SEEN = ("trained", "held_out")


@dataclass(frozen=True)
class EncodedPart:
    """Teachers with their conditions and latents.

    Attributes:
        teachers: n of them.
        told: n conditions, embedded.
        latent: of the teachers.
    """

    teachers: HeldOutTeachers
    told: ConditionBatch
    latent: Latent

    @classmethod
    @torch.no_grad()
    def of(
        cls, vae: LoRAGeneratorVAE, teachers: HeldOutTeachers, told: ConditionBatch
    ) -> EncodedPart:
        """Encode teachers without noise."""
        return cls(teachers, told, vae.encode(told, teachers.read)[0])


@torch.no_grad()
def describe_latent(
    vae: LoRAGeneratorVAE,
    folder: Path,
    parts: Mapping[str, EncodedPart],
    behaviour: Behaviour,
    seed: int,
) -> LatentFound:
    """Read a latent off the part `held_out`; codes off all teachers of the seen tasks."""
    part = parts["held_out"]
    latent, generator = part.latent, torch.Generator().manual_seed(seed)
    samples = [vae.generate_from_z(vae.sample(part.told, generator)) for _ in range(SAMPLES)]
    apart = [1 - update_cosine(a, b) for a, b in combinations(samples, 2)]
    rates = None if latent.rates is None else latent.rates.mean(0)
    by_unit = () if rates is None or len(rates) < 2 else rates.sort(descending=True).values.tolist()
    use, information, by_task = None, None, {}
    if latent.codes is not None:
        seen = [parts[name] for name in SEEN]
        codes = torch.cat([each.latent.codes for each in seen if each.latent.codes is not None])
        tasks = [task for each in seen for task in each.teachers.tasks]
        use = codebook_use(codes, vae.bottleneck.codebook_size)  # type: ignore[arg-type]
        information = code_task_information(codes, tasks)
        by_task = codes_of_tasks(codes, tasks)
    varied = len(latent.mu) > 1
    return LatentFound(
        folder=folder.name,
        numbers=vae.layout.size,
        parameters=vae.parameter_count,
        seconds=float(read_json(folder / FINISHED, RunError)["seconds"]),
        kl=None if rates is None else float(rates.sum()),
        kl_by_unit=tuple(by_unit),
        mutual_information=(
            None
            if latent.logvar is None
            else mutual_information(latent.mu, latent.logvar, generator)
        ),
        active_units=active_units(latent.mu) if varied else 0.0,
        codes_used=None if use is None else use.used,
        code_perplexity=None if use is None else use.perplexity,
        code_task_information=information,
        codes_by_task=by_task,
        silhouette=_silhouette(parts),
        diversity=float(torch.stack(apart).mean()),
        layers=(ablate_layers(vae, latent.z, part.teachers.weights, behaviour) if varied else None),
    )


def _centres(parts: Mapping[str, EncodedPart]) -> Tensor:
    return torch.cat([part.latent.mu for part in parts.values()])


def _silhouette(parts: Mapping[str, EncodedPart]) -> float | None:
    """Of unseen teachers among those that were trained on: one of each task has no cluster."""
    seen = {name: parts[name] for name in SEEN}
    tasks = [task for part in seen.values() for task in part.teachers.tasks]
    return latent_silhouette(_centres(seen), tasks)


def map_latents(parts: Mapping[str, EncodedPart], seed: int) -> tuple[LatentMap, ...]:
    """Draw the centres of all parts in two dimensions, by PCA and by t-SNE."""
    centres = _centres(parts).double().cpu().numpy()
    tasks = tuple(task for part in parts.values() for task in part.teachers.tasks)
    splits = tuple(name for name, part in parts.items() for _ in part.teachers.tasks)
    if len(centres) < 3:
        return ()
    # A sixth of the points, as scikit-learn's default of 30 is for a couple of hundred.
    tsne = TSNE(perplexity=max(1.5, min(30.0, len(centres) / 6)), init="pca", random_state=seed)
    drawn = {"PCA": PCA(2, random_state=seed), "t-SNE": tsne}
    return tuple(
        LatentMap(kind, _pairs(method.fit_transform(centres)), tasks, splits)
        for kind, method in drawn.items()
    )


def _pairs(points: np.ndarray) -> tuple[tuple[float, float], ...]:
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in points)
