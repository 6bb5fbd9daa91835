"""How long the demo will take on this machine, from a few seconds of measuring."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Any

import torch

from llgbm.deltas.spec import device_of
from llgbm.deltas.tasks import load_task
from llgbm.generators.demo_presets import DemoPreset
from llgbm.generators.losses.recommended import DELTA_FROM

# Extra work of adapters on top of the base: measured on two CPU cores, rounded up.
TEACHER_FACTOR = 1.8
EVALUATION_FACTOR = 1.3
# A generator step without the base model, on two CPU cores, and adapters scored a task.
SECONDS_A_GENERATOR_STEP = 0.4
ADAPTERS_A_TASK = 12
PROBE_TOKENS = 5 * 48
PASSES = 4


def estimate_seconds(
    model: Any, tokenizer: Any, preset: DemoPreset, seed: int, finished: Collection[str] = ()
) -> dict[str, float]:
    """Estimate the seconds of the long stages that are not finished.

    Args:
        model: the loaded base.
        tokenizer: of the base.
        preset: sizes.
        seed: of the task splits.
        finished: stages among `teachers`, `generators` and `evaluation`.
    """
    forward, both = _seconds_a_token(model)
    answered, scored = [], []
    for name in (*preset.tasks, *preset.held_out):
        examples = load_task(name, seed=seed).train[:20]
        for example in examples:
            query = len(tokenizer(example.query)["input_ids"])
            choices = [len(tokenizer(choice)["input_ids"]) for choice in example.choices]
            answered.append(query + choices[example.gold])
            scored.append(query + sum(choices))
    tasks = len(preset.tasks) + len(preset.held_out)
    taught = tasks * preset.teachers_per_task * preset.teacher.steps
    taught *= preset.teacher.examples_per_step
    steps = preset.steps + preset.small_steps
    computed = (1 - DELTA_FROM) * steps * preset.batch_size * PROBE_TOKENS
    found = {
        "teachers": TEACHER_FACTOR * both * taught * sum(answered) / len(answered),
        "generators": 2 * steps * SECONDS_A_GENERATOR_STEP + TEACHER_FACTOR * both * computed,
        "evaluation": EVALUATION_FACTOR
        * forward
        * tasks
        * preset.examples
        * ADAPTERS_A_TASK
        * sum(scored)
        / len(scored),
    }
    return {stage: seconds for stage, seconds in found.items() if stage not in finished}


def _seconds_a_token(model: Any, rows: int = 16, tokens: int = 64) -> tuple[float, float]:
    """Seconds a token of a forward, and of a forward and backward, of the frozen base."""
    device = device_of(model)
    ids = torch.full((rows, tokens), 5, device=device)
    embedded = model.get_input_embeddings()(ids).detach()
    body = model.get_decoder()

    def forward() -> None:
        with torch.no_grad():
            body(inputs_embeds=embedded, use_cache=False)

    def both() -> None:
        start = embedded.clone().requires_grad_(True)
        body(inputs_embeds=start, use_cache=False).last_hidden_state.float().sum().backward()

    times = []
    for work in (forward, both):
        work()  # the first call pays for what is set up once
        passes = []
        for _ in range(PASSES):
            start = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            passes.append(time.perf_counter() - start)
        times.append(min(passes) / ids.numel())  # what ran beside it is no measure of the machine
    return times[0], times[1]
