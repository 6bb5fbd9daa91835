"""How many steps of a training fit into some seconds, from a few steps of it."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

from torch import nn

from llgbm.generators.runs import RunFolder
from llgbm.generators.training.config import TrainConfig
from llgbm.generators.training.inputs import TrainingInputs
from llgbm.generators.training.train import Trainer

PILOT_STEPS = 4


def steps_within(
    config: TrainConfig, seconds: float, inputs: TrainingInputs, model: nn.Module, run: RunFolder
) -> int:
    """Return the steps that `seconds` of training allow, at least 10.

    A pilot times steps that run the base and steps that do not, each after one that is not
    timed, and weighs them by how often the whole training has them.

    Args:
        config: of the training; its steps only say how often the base runs.
        seconds: of training steps.
        inputs: of the training.
        model: the loaded base.
        run: folder of the run; nothing is written.
    """
    trainer = Trainer(replace(config, name="pilot"), inputs, model, run)
    kinds: dict[bool, list[int]] = {True: [], False: []}
    for step in range(config.steps):
        kinds[trainer.objective.runs_base(step)].append(step)
    total = 0.0
    for steps in kinds.values():
        if not steps:
            continue
        times = []
        for step in (steps * (PILOT_STEPS + 1))[: PILOT_STEPS + 1]:
            trainer.step = step
            start = time.perf_counter()
            trainer.train_step()
            times.append(time.perf_counter() - start)
        total += statistics.median(times[1:]) * len(steps)
    return max(10, round(seconds * config.steps / total))
