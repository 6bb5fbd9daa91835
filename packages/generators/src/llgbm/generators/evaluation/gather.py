"""The results of an evaluation, gathered from what was found on its tasks."""

from __future__ import annotations

from torch import nn

from llgbm.deltas.bootstrap import interval
from llgbm.deltas.cache import DeltaCache
from llgbm.deltas.environment import environment
from llgbm.deltas.errors import RunError
from llgbm.deltas.json_files import read_json
from llgbm.deltas.spec import device_of
from llgbm.deltas.tasks import known_tasks
from llgbm.generators.evaluation.behaviour_check import delta_cosines
from llgbm.generators.evaluation.clusters import clusters
from llgbm.generators.evaluation.metrics import differences, seed_metrics, split_metrics
from llgbm.generators.evaluation.results import SPLITS, Results
from llgbm.generators.evaluation.summary import (
    alignment_block,
    arm_outcomes,
    behaviour_block,
    nearest_block,
    parse_block,
)
from llgbm.generators.evaluation.task_scores import TaskScores
from llgbm.generators.evaluation.tasks import EvaluatedTask
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.manifest import Manifest


def gather_results(
    run: RunFolder,
    manifest: Manifest,
    generators: list[str],
    scored: int,
    model: nn.Module,
    scores: list[TaskScores],
    tasks: list[EvaluatedTask],
    cache: DeltaCache,
    held_out_probes: str,
    seed: int,
) -> Results:
    """Return what results.json holds.

    Args:
        run: its folder.
        manifest: its teachers.
        generators: names of those scored, in the order in which arms hold their adapters, and
            after them of those whose delta cosines stand beside.
        scored: number of the former.
        model: frozen base.
        scores: what was found on each task.
        tasks: the same tasks.
        cache: of the teachers' deltas.
        held_out_probes: name of the probes that training did not use.
        seed: of the bootstrap.
    """
    outcomes = arm_outcomes(scores, scored)
    by_split = {
        split: found
        for split in SPLITS
        if (found := [item for item in scores if item.split == split])
    }
    split_outcomes = {
        split: {arm: {i.task: values[i.task] for i in found} for arm, values in outcomes.items()}
        for split, found in by_split.items()
    }
    metrics: dict[str, float | None] = {}
    for split, by_arm in split_outcomes.items():
        metrics |= split_metrics(by_arm, split)
        if scored > 1:
            metrics |= seed_metrics(by_arm, split, generators[:scored])
    entries = list(manifest.adapters)
    return Results(
        _scale(manifest, tasks, scored),
        environment(seed, device_of(model), next(model.parameters()).dtype),
        {
            split: {arm: interval(values, seed) for arm, values in found.items()}
            for split, found in split_outcomes.items()
        },
        {
            item.task: {
                arm: interval({item.task: values[item.task]}, seed)
                for arm, values in outcomes.items()
            }
            for item in scores
        },
        {item.task: item.split for item in scores},
        metrics,
        delta_cosines(run, manifest, model, held_out_probes, generators),
        _seconds(run),
        {split: differences(found, seed) for split, found in split_outcomes.items()},
        {split: behaviour_block(found, seed) for split, found in by_split.items()},
        {split: nearest_block(found, seed) for split, found in by_split.items()},
        {split: parse_block(found, seed) for split, found in by_split.items()},
        clusters(
            cache.load_all({entry.id: entry.fingerprint for entry in entries}),
            manifest.load(run.checkpoints, entries).to(device_of(model)),
            [entry.task for entry in entries],
            [entry.family for entry in entries],
        ),
        alignment_block(scores, seed),
    )


def _scale(manifest: Manifest, tasks: list[EvaluatedTask], generators: int) -> str:
    """What the numbers are of, in a line."""
    counts = {split: sum(item.split == split for item in tasks) for split in SPLITS}
    words = f"{counts['seen']} seen and {counts['held_out_family']} held-out tasks"
    if counts["validation_family"]:
        words = f"{counts['validation_family']} validation, {words}"
    examples = "/".join(map(str, sorted({len(item.examples) for item in tasks})))
    packaged = sum(item.task.name in known_tasks() for item in tasks)
    parts = ["packaged evaluation data split again, fixed seed"] if packaged else []
    parts += [f"{len(tasks) - packaged} own tasks"] if packaged < len(tasks) else []
    source = ", ".join(parts)
    seeds = f"{generators} generator seeds, " if generators > 1 else ""
    return (
        f"{manifest.base_model}, {words}, {len(manifest.adapters)} teachers, {seeds}"
        f"{examples} test examples a task; {source}"
    )


def _seconds(run: RunFolder) -> dict[str, float]:
    """Wall-clock seconds of the steps so far, where the demo noted them."""
    path = run.root / "seconds.json"
    return read_json(path, RunError) if path.exists() else {}
