"""Sizes of the VAE experiments.

A VAE can rebuild a teacher that it has not seen from what teachers of its task share. Teachers of
the main job share little: each sees examples of its own. The other kind are runs of one
fine-tuning, as in collections of checkpoints: the same examples in other orders.
"""

from __future__ import annotations

from dataclasses import replace

from llgbm.generators.experiments.presets import PRESETS, ExperimentPreset, PresetName
from llgbm.generators.teachers.batched import TeacherOptim
from llgbm.generators.teachers.shards import ShardData

# Of every task: one to choose steps by, one to measure on, and those trained on.
HELD_OUT_TEACHERS = 2
VAE_PRESETS: dict[str, ExperimentPreset] = {
    "demo": replace(
        PRESETS["demo"],
        held_out=(),
        teachers_per_task=6,
        teacher=TeacherOptim(steps=24, examples_per_step=8, max_tokens=128),
        steps=300,
        batch_size=8,
        codes=12,
        examples=40,
        pairs=6,
        data="shared",
        examples_per_teacher=64,
        keep_every=6,
    ),
    "small": replace(
        PRESETS["small"],
        held_out=(),
        teachers_per_task=6,
        steps=360,
        batch_size=8,
        examples=40,
        pairs=8,
        data="shared",
        examples_per_teacher=64,
        keep_every=6,
    ),
    "gpu": replace(
        PRESETS["gpu"],
        held_out=(),
        teachers_per_task=8,
        teacher=TeacherOptim(steps=60, examples_per_step=16),
        steps=3000,
        batch_size=32,
        pairs=40,
        data="shared",
        examples_per_teacher=128,
        keep_every=15,
    ),
}


def vae_preset(name: PresetName, data: ShardData) -> ExperimentPreset:
    """Return the sizes for teachers that share their examples, or for those of the main job.

    Where the main job has too few of a task to hold any out, the sizes are those of the former.
    """
    shared, main = VAE_PRESETS[name], PRESETS[name]
    if data == "shared":
        return shared
    if main.teachers_per_task > HELD_OUT_TEACHERS:
        return main
    return replace(shared, data=data, examples_per_teacher=0)
