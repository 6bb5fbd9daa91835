"""Rebuilt and written adapters beside the teachers that they should be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from llgbm.deltas.bootstrap import Interval, over_tasks
from llgbm.deltas.by_layer import delta_cosine
from llgbm.deltas.clusters import silhouette
from llgbm.deltas.fingerprint import adapter_fingerprint
from llgbm.deltas.spec import device_of
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.evaluation.multiple_choice import score_choices
from llgbm.generators.experiments.unseen import unseen_examples
from llgbm.generators.losses.update_cosine import update_cosine
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.training.behaviour import Behaviour
from llgbm.generators.training.inputs import load_run_task
from llgbm.generators.vae.experiments.accuracy_notes import AccuracyNotes
from llgbm.generators.vae.held_out import HeldOutTeachers

BY_DIFFERENCES = "donot_use_mm_for_euclid_dist"
# Adapters of one forward, where tasks are scored.
AT_ONCE = 12
# The base without an adapter, among notes by fingerprint.
BARE = "base"


@dataclass(frozen=True)
class Row:
    """One way to stand in for n teachers.

    Attributes:
        update_cosine: of whole updates with the teacher's.
        delta_cosine: of deltas on the generic probes.
        held_out_delta_cosine: on probes that nothing was trained on.
        accuracy: on validation examples of the teacher's task.
        over_teacher: accuracy minus the teacher's, paired.
        over_base: accuracy minus the base's, paired.
        tasks_above_base: tasks with a higher accuracy than the base.
        accuracy_by_task: the accuracy, of each task.
    """

    update_cosine: Interval
    delta_cosine: Interval
    held_out_delta_cosine: Interval
    accuracy: Interval
    over_teacher: Interval
    over_base: Interval
    tasks_above_base: int
    accuracy_by_task: Mapping[str, float]


@torch.no_grad()
def measure_rows(
    part: HeldOutTeachers,
    stand_ins: Mapping[str, LoRAWeights],
    manifest: Manifest,
    model: nn.Module,
    tokenizer: Any,
    behaviours: tuple[Behaviour, Behaviour],
    examples: int,
    seed: int,
    notes: AccuracyNotes,
) -> dict[str, Row]:
    """Measure every stand-in, the teachers themselves first.

    Intervals resample teachers.

    Args:
        part: n teachers.
        stand_ins: name -> n adapters of the teachers' spec, in their order.
        manifest: of the run.
        model: frozen base.
        tokenizer: of the base.
        behaviours: on the probes trained on, and on held-out ones.
        examples: scored of each task.
        seed: of the intervals.
        notes: of accuracies; those that are there are not measured again.
    """
    device = device_of(model)
    everything = {"teacher": part.weights, **stand_ins}
    correct = _correct(part.tasks, everything, manifest, model, tokenizer, examples, notes)
    targets = [behaviour(part.weights.to(device)) for behaviour in behaviours]
    rows = {}
    for name, weights in everything.items():
        on_device = weights.to(device)
        cosines = [
            delta_cosine(behaviour(on_device), target)
            for behaviour, target in zip(behaviours, targets, strict=True)
        ]
        own, base, teacher = correct[name], correct["base"], correct["teacher"]
        by_task, floor = _by_task(own, part.tasks), _by_task(base, part.tasks)
        rows[name] = Row(
            _interval(update_cosine(weights, part.weights), seed),
            _interval(cosines[0], seed),
            _interval(cosines[1], seed),
            _interval(torch.tensor(own), seed),
            _interval(torch.tensor(own) - torch.tensor(teacher), seed),
            _interval(torch.tensor(own) - torch.tensor(base), seed),
            sum(value > floor[task] for task, value in by_task.items()),
            by_task,
        )
    return rows


def _by_task(values: Sequence[float], tasks: Sequence[str]) -> dict[str, float]:
    """Mean over each task's teachers."""
    return {
        task: float(np.mean([v for v, t in zip(values, tasks, strict=True) if t == task]))
        for task in dict.fromkeys(tasks)
    }


def _interval(values: Tensor, seed: int) -> Interval:
    numbers = values.double().cpu().tolist()
    return over_tasks({str(place): value for place, value in enumerate(numbers)}, seed)


def _correct(
    tasks: Sequence[str],
    stand_ins: Mapping[str, LoRAWeights],
    manifest: Manifest,
    model: nn.Module,
    tokenizer: Any,
    examples: int,
    notes: AccuracyNotes,
) -> dict[str, list[float]]:
    """Accuracy of every stand-in for every teacher on its task, and of the base."""
    found: dict[str, list[float]] = {name: [0.0] * len(tasks) for name in (*stand_ins, "base")}
    for task in tqdm(dict.fromkeys(tasks), desc="accuracy", unit="task", mininterval=1.0):
        data = load_run_task(manifest, task)
        data.require_choices()
        scored = unseen_examples(data, examples).scored
        pool = [(name, i) for name in stand_ins for i, each in enumerate(tasks) if each == task]
        names = {(row, at): adapter_fingerprint(stand_ins[row], at) for row, at in pool}
        known = notes.of(scored)
        new = {
            name: stand_ins[row].select([place])
            for (row, place), name in names.items()
            if name not in known
        }
        for start in range(0, len(new), AT_ONCE):
            some = list(new)[start : start + AT_ONCE]
            together = LoRAWeights.concatenate([new[name] for name in some])
            right = score_choices(model, tokenizer, scored, together.to(device_of(model))).correct()
            notes.note(scored, dict(zip(some, right.float().mean(1).tolist(), strict=True)))
        if BARE not in known:
            right = score_choices(model, tokenizer, scored).correct()
            notes.note(scored, {BARE: float(right.float().mean())})
        known = notes.of(scored)
        for (row, place), name in names.items():
            found[row][place], found["base"][place] = known[name], known[BARE]
    return found


def latent_silhouette(mu: Tensor, tasks: Sequence[str]) -> float | None:
    """Do latents [n, size] of one task stand together: silhouette of Euclidean distances.

    Returns:
        None where it is not defined: one task, or a task for each.
    """
    if not 1 < len(set(tasks)) < len(tasks):
        return None
    # By differences: by products, as of more than 25 rows, a point is not quite where it is.
    distances = torch.cdist(mu.double(), mu.double(), compute_mode=BY_DIFFERENCES)
    return silhouette(distances.cpu().numpy(), list(tasks))
