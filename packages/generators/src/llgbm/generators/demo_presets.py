"""Presets of the demo: the same steps at two sizes."""

from __future__ import annotations

from dataclasses import dataclass

from llgbm.generators.teachers.batched import TeacherOptim


@dataclass(frozen=True)
class DemoPreset:
    """Sizes of a demo run.

    Attributes:
        tasks: seen tasks, each of another family.
        held_out: tasks of families that the generator never sees.
        teachers_per_task: teachers of each.
        teacher: their optimiser settings.
        steps: of the generator and of its control on weights alone.
        small_steps, small_codes: of a pair whose decoder cannot hold all teachers.
        batch_size: adapters of a generator step.
        examples: test examples scored of each task.
    """

    tasks: tuple[str, ...]
    held_out: tuple[str, ...]
    teachers_per_task: int
    teacher: TeacherOptim
    steps: int
    small_steps: int
    small_codes: int
    batch_size: int
    examples: int


PRESETS = {
    "demo": DemoPreset(
        tasks=(
            "arc_easy",
            "sciq",
            "csqa",
            "basic_skills_logical_reasoning",
            "basic_skills_pattern",
            "basic_skills_string_operations",
        ),
        held_out=("basic_skills_common_knowledge",),
        teachers_per_task=2,
        teacher=TeacherOptim(steps=26, examples_per_step=12),
        steps=160,
        small_steps=100,
        small_codes=3,
        batch_size=6,
        examples=60,
    ),
    # Too small to learn much: it shows that every step runs.
    "smoke": DemoPreset(
        tasks=("sciq", "basic_skills_logical_reasoning"),
        held_out=("basic_skills_common_knowledge",),
        teachers_per_task=1,
        teacher=TeacherOptim(steps=5, examples_per_step=6),
        steps=12,
        small_steps=6,
        small_codes=1,
        batch_size=2,
        examples=12,
    ),
}
