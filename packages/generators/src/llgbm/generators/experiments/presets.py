"""Sizes of experiments: a look, an hour on two cores, and for a data-centre GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from llgbm.generators.teachers.batched import TeacherOptim
from llgbm.generators.teachers.shards import ShardData

PresetName = Literal["demo", "small", "gpu"]


@dataclass(frozen=True)
class ExperimentPreset:
    """Tasks, teachers and training of an experiment.

    Attributes:
        tasks: of the families that generators are trained on.
        validation: of further families; ablations are judged by these and the seen ones.
        held_out: of test families, which only `llgbm evaluate` looks at.
        teachers_per_task: teachers of each task.
        teacher: their optimiser settings.
        steps: of a generator.
        batch_size: adapters of a generator step.
        codes: of the full-width decoder.
        seeds: generators of each variant, and generators that are evaluated.
        examples: examples scored of each task.
        equal_seconds: of training steps, where variants are compared at equal time.
        pairs: of tasks, where mixtures or the way from one to the other are asked about.
        r: rank of all adapters; lora_alpha is twice that.
        data: whether teachers of a task share their examples.
        examples_per_teacher: most examples of one; 0 for all.
        keep_every: steps between checkpoints that stay of every teacher's way; 0 for none.
    """

    tasks: tuple[str, ...]
    validation: tuple[str, ...]
    held_out: tuple[str, ...]
    teachers_per_task: int
    teacher: TeacherOptim
    steps: int
    batch_size: int
    codes: int
    seeds: int
    examples: int
    equal_seconds: float
    pairs: int
    r: int = 8
    data: ShardData = "disjoint"
    examples_per_teacher: int = 0
    keep_every: int = 0


# MMLU subjects of the `gpu` preset: every one is a family of its own. The smallest, of a hundred
# questions, would leave a teacher seventeen.
_MMLU_TRAIN = (
    "anatomy", "astronomy", "business_ethics", "clinical_knowledge",
    "college_biology", "college_chemistry", "college_physics", "computer_security",
    "conceptual_physics", "econometrics", "electrical_engineering", "elementary_mathematics",
    "formal_logic",
    "high_school_biology", "high_school_chemistry", "high_school_computer_science",
    "high_school_geography", "high_school_macroeconomics", "high_school_mathematics",
    "high_school_physics", "high_school_psychology", "human_aging", "international_law",
    "logical_fallacies",
)  # fmt: skip
_MMLU_VALIDATION = ("machine_learning", "management", "marketing", "medical_genetics")
_MMLU_TEST = (
    "miscellaneous", "nutrition", "philosophy", "prehistory", "sociology", "virology",
    "world_religions",
)  # fmt: skip

_SEEN = (
    "arc_easy", "boolq", "basic_skills_coding", "basic_skills_logical_reasoning",
    "basic_skills_pattern", "basic_skills_string_operations", "copycolors", "csqa", "hellaswag",
    "medmcqa", "sciq", "winogrande",
)  # fmt: skip
_VALIDATION = ("piqa", "basic_skills_arithmetic")
# Further families of the `gpu` preset, which like MMLU need pyarrow.
_SEEN_ON_A_GPU = ("copa", "mrpc", "rte", "sst2")
_HELD_OUT = ("openbookqa", "socialiqa", "basic_skills_common_knowledge")


def _mmlu(subjects: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"mmlu_{subject}" for subject in subjects)


PRESETS: dict[str, ExperimentPreset] = {
    "demo": ExperimentPreset(
        tasks=("arc_easy", "sciq", "basic_skills_logical_reasoning", "basic_skills_pattern"),
        validation=("csqa",),
        held_out=("basic_skills_common_knowledge",),
        teachers_per_task=2,
        teacher=TeacherOptim(steps=14, examples_per_step=8),
        steps=40,
        batch_size=4,
        codes=3,
        seeds=1,
        examples=16,
        equal_seconds=20.0,
        pairs=2,
    ),
    "small": ExperimentPreset(
        tasks=_SEEN,
        validation=_VALIDATION,
        held_out=_HELD_OUT,
        teachers_per_task=4,
        teacher=TeacherOptim(steps=24, examples_per_step=8, max_tokens=128),
        steps=300,
        batch_size=6,
        codes=12,
        seeds=3,
        examples=20,
        equal_seconds=30.0,
        pairs=4,
    ),
    "gpu": ExperimentPreset(
        tasks=(*_SEEN, *_SEEN_ON_A_GPU, *_mmlu(_MMLU_TRAIN)),
        validation=(*_VALIDATION, *_mmlu(_MMLU_VALIDATION)),
        held_out=(*_HELD_OUT, *_mmlu(_MMLU_TEST)),
        teachers_per_task=4,
        teacher=TeacherOptim(steps=60, examples_per_step=16),
        steps=1500,
        batch_size=32,
        codes=48,
        seeds=3,
        examples=100,
        equal_seconds=15.0,
        pairs=8,
    ),
}
