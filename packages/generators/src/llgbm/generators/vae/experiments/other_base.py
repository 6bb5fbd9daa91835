"""Teachers of another base: taught as those are that a VAE was trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

from llgbm.deltas.errors import RunError, mismatch
from llgbm.generators.experiments.presets import ExperimentPreset
from llgbm.generators.runs import RunFolder
from llgbm.generators.teachers.batched import TeacherOptim
from llgbm.generators.teachers.manifest import Manifest
from llgbm.generators.teachers.shards import ShardData
from llgbm.generators.teachers.teach import TeachConfig


def taught_as(sources: Path, sizes: ExperimentPreset, seed: int) -> ExperimentPreset:
    """Return the sizes with the tasks and teachers of a run, whatever its base.

    Teachers of test families, which no VAE experiment looks at, are left out.

    Args:
        sources: run folder.
        sizes: of everything else.
        seed: of the teachers to be taught.

    Raises:
        RunError: no teachers there, or ones that an experiment of this seed does not teach:
            another alpha than twice the rank, other modules than all linears, different starts.
    """
    file = RunFolder(sources).manifest
    settings = Manifest.read(file).settings
    try:
        teacher = TeacherOptim(**settings["optim"])
        usual = TeachConfig(
            sources,
            tuple(settings["tasks"]),
            teachers_per_task=settings["teachers_per_task"],
            data=settings.get("data", "disjoint"),
            examples_per_teacher=settings.get("examples_per_teacher", 0),
            r=settings["r"],
            lora_alpha=2.0 * settings["r"],
            seed=seed,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{file}: settings: {type(error).__name__}: {error}") from error
    if usual.data not in get_args(ShardData):
        raise RunError(mismatch(file, "settings.data", get_args(ShardData), usual.data))
    preset = replace(
        sizes,
        tasks=usual.tasks,
        validation=tuple(settings.get("validation", ())),
        held_out=(),
        teachers_per_task=usual.teachers_per_task,
        teacher=teacher,
        r=usual.r,
        data=usual.data,
        examples_per_teacher=usual.examples_per_teacher,
    )
    expected = usual.settings()
    for key in ("lora_alpha", "target_modules", "shared_A", "seed"):
        if settings.get(key) != expected[key]:
            wanted = f"{expected[key]} as the experiment has"
            raise RunError(mismatch(file, key, wanted, settings.get(key)))
    return preset
