"""`llgbm-bench delta-forward`: forward and backward of n adapters on p probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from llgbm.bench.errors import GateError
from llgbm.bench.memory import peak_mib
from llgbm.bench.models import bench_model
from llgbm.bench.results import results_of, rows_of
from llgbm.bench.rivals import Outcome, Workload, in_short_attention, rivals_here
from llgbm.bench.timing import interleaved
from llgbm.deltas.atomic import write_json
from llgbm.deltas.errors import require_at_least, require_seed
from llgbm.deltas.short_attention import attends_shortly
from llgbm.deltas.spec import LoRASpec, device_of
from llgbm.deltas.weights import LoRAWeights

# Largest relative error (norm of the difference over norm) against the hook loop: rounding of
# the activations' dtype through all layers.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 6e-2, torch.float16: 2e-2}


@dataclass(frozen=True)
class DeltaForwardConfig:
    """Time n adapters on p probes of t tokens, forward and backward to all factors.

    Args:
        model: a base model, or `random:qwen2.5-0.5b`, `random:qwen2.5-1.5b`,
            `random:llama-tiny`.
        dtype: of the base; `auto` is bfloat16 where the hardware has it.
        n: adapters.
        p: probes.
        t: tokens of each probe.
        r: rank.
        repeats: rounds; every rival runs once in each.
        out: JSON file of results; nothing is written where not given.
        seed: of adapters, tokens and random weights.
    """

    model: str = "smollm2-135m"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    n: int = 8
    p: int = 5
    t: int = 40
    r: int = 8
    repeats: int = 5
    out: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(1, n=self.n, p=self.p, t=self.t, r=self.r, repeats=self.repeats)
        require_seed(self.seed)


def delta_forward(
    config: DeltaForwardConfig,
    rivals: Mapping[str, Callable[[Workload], Outcome]] | None = None,
) -> dict[str, Any]:
    """Check every rival, time them, print the table, write the file.

    Args:
        config: sizes.
        rivals: those that this machine can run where None.

    Raises:
        GateError: a rival's states or gradients are off.
    """
    rivals = dict(rivals_here() if rivals is None else rivals)
    bases = {"base_alone": Workload.base_alone}
    model = bench_model(config.model, config.dtype, config.seed)
    workload = make_workload(model, config)
    if attends_shortly(model, config.t):
        rivals |= in_short_attention(rivals)
        bases |= in_short_attention(bases)
    errors = check(workload, rivals)
    works: dict[str, Callable[[], object]] = {
        name: partial(work, workload) for name, work in {**rivals, **bases}.items()
    }
    peaks = {name: peak_mib(work) for name, work in works.items()}
    timings = interleaved(works, config.repeats)
    rows = rows_of(timings, peaks, errors, config.n * config.p * config.t, config.n)
    dtype = next(model.parameters()).dtype
    results = results_of("delta-forward", config, device_of(model), dtype, rows=rows)
    print(table(results))
    if config.out is not None:
        write_json(config.out, results)
    return results


def make_workload(model: Any, config: DeltaForwardConfig) -> Workload:
    """Random adapters of a trained one's size, and random probe tokens."""
    generator = torch.Generator().manual_seed(config.seed)
    spec = LoRASpec.from_model(model, config.r, 2.0 * config.r)
    weights = LoRAWeights.initial(spec, config.n, generator, shared_A=False)
    lora_B = {
        path: 5e-3 * torch.randn(factor.shape, generator=generator)
        for path, factor in weights.lora_B.items()
    }
    weights = LoRAWeights(spec, weights.lora_A, lora_B).to(device_of(model))
    vocabulary = model.config.get_text_config().vocab_size
    ids = torch.randint(5, vocabulary, (config.p, config.t), generator=generator)
    return Workload(model, weights, ids.to(device_of(model)))


def check(
    workload: Workload, rivals: Mapping[str, Callable[[Workload], Outcome]]
) -> dict[str, float]:
    """Relative error of every rival's states and gradients against the hook loop.

    Raises:
        GateError: one is above the tolerance of the dtype.
    """
    dtype = next(workload.model.parameters()).dtype
    reference = workload.hook_loop()
    errors = {}
    for name, rival in rivals.items():
        states, gradients = rival(workload)
        pairs = [(states, reference[0]), *zip(gradients, reference[1], strict=True)]
        squares = [
            (float((a - b).double().square().sum()), float(b.double().square().sum()))
            for a, b in pairs
        ]
        state_error = (squares[0][0] / max(squares[0][1], 1e-30)) ** 0.5
        gradient_error = (
            sum(error for error, _ in squares[1:])
            / max(sum(size for _, size in squares[1:]), 1e-30)
        ) ** 0.5
        errors[name] = max(state_error, gradient_error)
        if not errors[name] <= TOLERANCE[dtype]:
            raise GateError(name, TOLERANCE[dtype], dtype, errors[name])
    return errors


def table(results: Mapping[str, Any]) -> str:
    """Rows as aligned text."""
    config, env = results["config"], results["environment"]
    head = (
        f"{config['model']} {env['dtype']} on {env['device']}: n={config['n']} p={config['p']} "
        f"t={config['t']} r={config['r']}, forward + backward, median of {config['repeats']}"
    )
    lines = [
        head,
        f"{'':<34}{'ms':>10}{'20%':>10}{'80%':>10}{'tokens/s':>10}{'x base':>8}{'MiB':>9}",
    ]
    for name, row in results["rows"].items():
        lines.append(
            f"{name:<34}{row['median_ms']:>10.1f}{row['low_ms']:>10.1f}{row['high_ms']:>10.1f}"
            f"{row['tokens_per_s']:>10.0f}{row['times_base']:>8.2f}{row['peak_mib']:>9.0f}"
        )
    return "\n".join(lines)
