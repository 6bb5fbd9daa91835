"""Ways from one task's adapter to another's: through the latent, and straight in updates."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from llgbm.deltas.bootstrap import Interval, over_tasks
from llgbm.deltas.by_layer import by_layer, delta_cosine, layer_rms
from llgbm.deltas.fingerprint import adapter_fingerprint, file_fingerprint, text_fingerprint
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.multiple_choice import score_choices
from llgbm.generators.experiments.unseen import unseen_examples
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import load_run_task
from llgbm.generators.vae.augment import interpolated
from llgbm.generators.vae.experiments.walk_notes import Walk, WalkNotes
from llgbm.generators.vae.files import TENSORS
from llgbm.generators.vae.generator import LoRAGeneratorVAE
from llgbm.generators.vae.held_out import HeldOutTeachers

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
LATENT, EVEN = "latent", "latent, even"
STRAIGHT, TEACHERS = "straight, rebuilt ends", "straight, teachers"


@dataclass(frozen=True)
class Way:
    """One kind of way, mean over pairs of tasks.

    Attributes:
        accuracy: at each share, mean of both tasks' accuracies.
        start_cosine: at each share, delta cosine with the teacher that the way leaves.
        end_cosine: with the one that it reaches.
        unevenness: longest of the way's steps over their mean, in deltas with layers alike; 1 is
            even.
        detour: length of the way over the distance of its ends; 1 is straight.
        midpoint: accuracy half way.
        over_straight: that minus the accuracy of the straight way between the rebuilt ends.
    """

    accuracy: tuple[float, ...]
    start_cosine: tuple[float, ...]
    end_cosine: tuple[float, ...]
    unevenness: float
    detour: float
    midpoint: Interval
    over_straight: Interval


def pairs_of_tasks(tasks: Sequence[str], count: int, seed: int) -> list[tuple[int, int]]:
    """Choose at most `count` pairs of places whose tasks differ."""
    pairs = [(i, j) for i, j in combinations(range(len(tasks)), 2) if tasks[i] != tasks[j]]
    return sorted(random.Random(f"{seed}:ways").sample(pairs, min(count, len(pairs))))


@torch.no_grad()
def measure_ways(
    vae: LoRAGeneratorVAE,
    z: Tensor,
    part: HeldOutTeachers,
    manifest: Manifest,
    model: nn.Module,
    tokenizer: Any,
    behaviour: Behaviour,
    examples: int,
    pairs: int,
    seed: int,
    folder: Path,
) -> dict[str, Way]:
    """Go every way between pairs of teachers of different tasks.

    Intervals resample pairs.

    Args:
        vae: that writes the latent way.
        z: [n, size] latents of the teachers, by this VAE.
        part: n teachers.
        manifest: of the run.
        model: frozen base.
        tokenizer: of the base.
        behaviour: computes deltas.
        examples: scored of each task.
        pairs: most pairs.
        seed: of the choice of pairs and the intervals.
        folder: of the VAE, where what was measured of a pair is noted.

    Returns:
        Way by name; none where no two tasks differ.
    """
    chosen = pairs_of_tasks(part.tasks, pairs, seed)
    if not chosen:
        return {}
    rebuilt = vae.generate_from_z(z)
    notes = WalkNotes(folder, _key(folder, part, examples))
    measured: dict[str, list[Walk]] = {}
    for i, j in tqdm(chosen, desc="ways", unit="pair", mininterval=1.0):
        known = notes.of((i, j))
        if known is not None:
            for name, walk in known.items():
                measured.setdefault(name, []).append(walk)
            continue
        ways = {
            LATENT: vae.interpolate(z[i], z[j], SHARES),
            EVEN: vae.interpolate(z[i], z[j], SHARES, even=True),
            STRAIGHT: interpolated(rebuilt, [(i, j)] * len(SHARES), SHARES),
            TEACHERS: interpolated(part.weights, [(i, j)] * len(SHARES), SHARES),
        }
        accuracies = _accuracies(
            ways, (part.tasks[i], part.tasks[j]), manifest, model, tokenizer, examples
        )
        ends = behaviour(part.weights.select([i, j]).to(device_of(model)))
        walks = {
            name: _walk(accuracies[name], behaviour(adapters.to(device_of(model))), ends)
            for name, adapters in ways.items()
        }
        notes.note((i, j), walks)
        for name, walk in walks.items():
            measured.setdefault(name, []).append(walk)
    straight = [walk.accuracy[len(SHARES) // 2] for walk in measured[STRAIGHT]]
    return {name: _mean(walks, straight, seed) for name, walks in measured.items()}


def _key(folder: Path, part: HeldOutTeachers, examples: int) -> str:
    """Fingerprint of what walks depend on: the VAE, the teachers, and what they are scored on."""
    return text_fingerprint(
        {
            "vae": file_fingerprint(folder / TENSORS),
            "teachers": [adapter_fingerprint(part.weights, row) for row in range(part.weights.n)],
            "tasks": list(part.tasks),
            "examples": examples,
            "shares": SHARES,
        }
    )


def of_variant(ways: Mapping[str, Way], variant: str) -> dict[str, Way]:
    """Name the ways of another variant; what lies between the teachers themselves is the same."""
    return {f"{name}, {variant}": way for name, way in ways.items() if name != TEACHERS}


def _walk(accuracy: list[float], deltas: Tensor, ends: Tensor) -> Walk:
    scaled = (by_layer(deltas).float() / layer_rms(ends)).flatten(1)
    steps = (scaled[1:] - scaled[:-1]).norm(dim=1)
    length, distance = float(steps.sum()), float((scaled[-1] - scaled[0]).norm())
    start, end = (
        tuple(delta_cosine(deltas, ends[[place]].expand_as(deltas)).tolist()) for place in (0, 1)
    )
    # Ends that coincide have no way between them.
    uneven = float(steps.max()) * len(steps) / length if length > 0 else 1.0
    return Walk(tuple(accuracy), start, end, uneven, length / distance if distance > 0 else 1.0)


def _accuracies(
    ways: Mapping[str, LoRAWeights],
    tasks: Sequence[str],
    manifest: Manifest,
    model: nn.Module,
    tokenizer: Any,
    examples: int,
) -> dict[str, list[float]]:
    """Mean over the tasks of each adapter's accuracy, in the order of its way."""
    together = LoRAWeights.concatenate(list(ways.values())).to(device_of(model))
    total = torch.zeros(together.n)
    for task in tasks:
        scored = unseen_examples(load_run_task(manifest, task), examples).scored
        total += score_choices(model, tokenizer, scored, together).correct().float().mean(1).cpu()
    rows = (total / len(tasks)).split(len(SHARES))
    return {name: row.tolist() for name, row in zip(ways, rows, strict=True)}


def _mean(walks: Sequence[Walk], straight: Sequence[float], seed: int) -> Way:
    def curve(name: str) -> tuple[float, ...]:
        return tuple(torch.tensor([getattr(walk, name) for walk in walks]).mean(0).tolist())

    def average(name: str) -> float:
        return sum(getattr(walk, name) for walk in walks) / len(walks)

    middle = [walk.accuracy[len(SHARES) // 2] for walk in walks]
    apart = [own - other for own, other in zip(middle, straight, strict=True)]
    return Way(
        curve("accuracy"),
        curve("start_cosine"),
        curve("end_cosine"),
        average("unevenness"),
        average("detour"),
        over_tasks({str(place): value for place, value in enumerate(middle)}, seed),
        over_tasks({str(place): value for place, value in enumerate(apart)}, seed),
    )
