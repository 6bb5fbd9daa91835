"""`llgbm-bench generator-step`: what a training step of each objective costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from llgbm.bench.errors import GateError
from llgbm.bench.generator_workload import ANSWER_TOKENS, GeneratorWorkload
from llgbm.bench.memory import peak_mib
from llgbm.bench.models import bench_model
from llgbm.bench.results import results_of, rows_of
from llgbm.bench.timing import Timing, interleaved
from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.deltas.short_attention import short_attention
from llgbm.deltas.spec import device_of
from llgbm.generators.losses import DeltaGuided, DeltaOnly, DeltaWeightLoss, MultiTask, Objective
from llgbm.generators.losses.recommended import recommended_objective

# Largest relative error of states or gradients, batched against one adapter at a time. In bfloat16
# either way is 0.08 off a float32 run (SmolLM2, small random adapters): rounding in all layers.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.15, torch.float16: 5e-2}


@dataclass(frozen=True)
class Cycle:
    """Steps of an objective: one runs the base on the probes, the others do not.

    Attributes:
        objective: what is minimised.
        steps: of a cycle.
        grounded: number of a step that runs the base, where one does.
        plain: number of one that does not, where there are several.
    """

    objective: Objective
    steps: int = 1
    grounded: int = 0
    plain: int = 1


OBJECTIVES: Mapping[str, Cycle] = {
    "weights_only": Cycle(MultiTask(lambda_delta=0.0)),
    "updates_only": Cycle(MultiTask(lambda_delta=0.0, weight_loss=DeltaWeightLoss())),
    "multi_task": Cycle(MultiTask()),
    "delta_only": Cycle(DeltaOnly()),
    "delta_only_norm_kl": Cycle(DeltaOnly(norm_penalty=0.01, lambda_kl=0.1)),
    "delta_guided_n1": Cycle(DeltaGuided(every_n=1)),
    "delta_guided_n5": Cycle(DeltaGuided(every_n=5), 5),
    "delta_guided_n20": Cycle(DeltaGuided(every_n=20), 20),
    "delta_guided_n5_kl": Cycle(DeltaGuided(every_n=5, lambda_kl=0.1), 5),
    "delta_guided_n5_sft": Cycle(DeltaGuided(every_n=5, lambda_sft=0.1), 5),
    # The base runs on every fourth step of a training's last quarter.
    "recommended": Cycle(recommended_objective(64), 16, grounded=60, plain=0),
}
SEED = "delta_only_one_by_one"


@dataclass(frozen=True)
class GeneratorStepConfig:
    """Time training steps of a generator under each objective.

    Args:
        model: a base model, or `random:...` as in delta-forward.
        dtype: of the base; `auto` is bfloat16 where the hardware has it.
        n: adapters of a step.
        p: probes.
        t: tokens of each probe, and of each question of the task loss.
        r: rank.
        codes: of the full-width decoder.
        examples: questions of each adapter, for the task loss.
        repeats: rounds; every kind of step runs once in each.
        out: JSON file of results; nothing is written where not given.
        seed: of everything random.
    """

    model: str = "smollm2-135m"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    n: int = 6
    p: int = 5
    t: int = 40
    r: int = 8
    codes: int = 12
    examples: int = 4
    repeats: int = 5
    out: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(
            1,
            n=self.n,
            p=self.p,
            r=self.r,
            codes=self.codes,
            examples=self.examples,
            repeats=self.repeats,
        )
        require_at_least(ANSWER_TOKENS + 1, t=self.t)
        require_seed(self.seed)


def generator_step(config: GeneratorStepConfig) -> dict[str, Any]:
    """Check both ways to compute deltas, time the steps, print the table, write the file.

    A row's time is the mean over a cycle of its objective: one step that runs the base on the
    probes, and those that do not. `base_share` is the part of it that the base's forward and
    backward, on probes and on tasks' examples, take, timed alone in the same rounds;
    `tokens_per_s` counts what the base runs on.

    Raises:
        GateError: deltas or gradients of the two ways differ.
    """
    model = bench_model(config.model, config.dtype, config.seed)
    dtype = next(model.parameters()).dtype
    workload = GeneratorWorkload(
        model,
        config.n,
        config.p,
        config.t,
        config.r,
        config.codes,
        config.examples,
        config.seed,
    )
    error = check(workload)
    works: dict[str, Callable[[], object]] = {"base_alone": workload.base_alone}
    for name, cycle in OBJECTIVES.items():
        step = partial(workload.step, cycle.objective)
        works[f"{name}:0"] = partial(step, cycle.grounded, workload.behaviour)
        if cycle.steps > 1:
            works[f"{name}:1"] = partial(step, cycle.plain, workload.behaviour)
    works[f"{SEED}:0"] = partial(workload.step, DeltaOnly(), 0, workload.hooked)
    works["batched"] = partial(workload.behaviour_alone, workload.behaviour)
    works["one_by_one"] = partial(workload.behaviour_alone, workload.hooked)
    works["tasks"] = workload.tasks_alone
    for work in works.values():
        work()  # what is allocated once, such as the optimiser's state, is not a step's
    peaks = {name: peak_mib(work) for name, work in works.items() if not name.endswith(":1")}
    timed = interleaved(works, config.repeats)
    cycles = {**OBJECTIVES, SEED: Cycle(DeltaOnly())}
    timings = {"base_alone": timed["base_alone"]} | {
        name: over_cycle(timed[f"{name}:0"], timed.get(f"{name}:1"), cycle.steps)
        for name, cycle in cycles.items()
    }
    rows = rows_of(
        timings,
        {name: peaks.get(f"{name}:0", peaks["base_alone"]) for name in timings},
        {SEED: error},
        config.n * config.p * config.t,
        config.n,
    )
    for name, row in rows.items():
        if name == "base_alone":
            row["base_share"] = 1.0
            continue
        cycle = cycles[name]
        probes = cycle.objective.runs_base(cycle.grounded) / cycle.steps
        tasks = float(cycle.objective.runs_tasks(cycle.grounded))
        alone = timed["one_by_one" if name == SEED else "batched"].median_ms
        spent = probes * alone + tasks * timed["tasks"].median_ms
        row["base_share"] = min(1.0, spent / row["median_ms"])
        tokens = probes * config.n * config.p * config.t + tasks * workload.task_tokens
        row["tokens_per_s"] = tokens / row["median_ms"] * 1e3
    results = results_of("generator-step", config, device_of(model), dtype, rows=rows)
    print(f"{config.model}: a generator's step, n={config.n} p={config.p} t={config.t}")
    print(f"{'':<24}{'ms':>9}{'adapters/s':>12}{'x base':>8}{'MiB':>8}{'in the base':>13}")
    for name, row in rows.items():
        print(
            f"{name:<24}{row['median_ms']:>9.1f}{row['adapters_per_s']:>12.1f}"
            f"{row['times_base']:>8.2f}{row['peak_mib']:>8.0f}{row['base_share']:>13.0%}"
        )
    if config.out is not None:
        write_json(config.out, results)
    return results


def over_cycle(grounded: Timing, plain: Timing | None, cycle: int) -> Timing:
    """Mean time of a step where one of `cycle` runs the base."""
    if plain is None:
        return grounded
    rest = cycle - 1
    return Timing(
        (grounded.median_ms + rest * plain.median_ms) / cycle,
        (grounded.low_ms + rest * plain.low_ms) / cycle,
        (grounded.high_ms + rest * plain.high_ms) / cycle,
    )


def check(workload: GeneratorWorkload) -> float:
    """Relative error of batched states and gradients against one adapter at a time.

    Raises:
        GateError: above the tolerance of the dtype.
    """
    batched = workload.behaviour_alone(workload.behaviour)
    # With one attention, so that what differs is how adapters are applied.
    with short_attention(workload.model, workload.behaviour.probes.input_ids.shape[1]):
        alone = workload.behaviour_alone(workload.hooked)
    # States and not deltas: rounding in them is as large as a small delta.
    device = batched[0].device
    states = (
        batched[0] + workload.behaviour.base_activation.to(device),
        alone[0] + workload.hooked.base_activation.to(device),
    )
    errors = []
    for mine, theirs in (([states[0]], [states[1]]), (batched[1], alone[1])):
        off = sum(float((a - b).double().square().sum()) for a, b in zip(mine, theirs, strict=True))
        size = sum(float(b.double().square().sum()) for b in theirs)
        errors.append((off / max(size, 1e-30)) ** 0.5)
    dtype = next(workload.model.parameters()).dtype
    if not max(errors) <= TOLERANCE[dtype]:
        raise GateError("batched", TOLERANCE[dtype], dtype, max(errors))
    return max(errors)
