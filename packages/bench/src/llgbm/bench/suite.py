"""`llgbm-bench all`: everything that is claimed of this machine, in one command."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from llgbm.bench.delta_forward import DeltaForwardConfig, delta_forward
from llgbm.bench.generate import GenerateConfig, generate
from llgbm.bench.generator_step import GeneratorStepConfig, generator_step
from llgbm.bench.kernels import KernelsConfig, kernels
from llgbm.bench.latentwire import LatentwireConfig, latentwire
from llgbm.bench.report import ReportConfig, report
from llgbm.bench.sideways import SidewaysConfig, sideways
from llgbm.bench.teach import TeachConfig, teach
from llgbm.deltas.errors import LLGBMError, check_name, require_at_least, require_seed

MODELS = ("smollm2-135m", "random:qwen2.5-0.5b", "random:qwen2.5-1.5b")


@dataclass(frozen=True)
class AllConfig:
    """Check and time everything, write the files, draw the plots.

    On an H100 or H200 this takes at most ten minutes. On a CPU the sizes are smaller.

    Args:
        out: folder of result files.
        label: of the machine, in the file names (`h200`, say).
        minutes: after which no further part is begun; what is left out is named.
        seed: of everything random.
    """

    out: Path
    label: str
    minutes: float = 9.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_name("label", self.label)
        require_at_least(0, minutes=self.minutes)
        require_seed(self.seed)


def run_all(config: AllConfig) -> list[Path]:
    """Run the parts in the order of their weight; a part that fails is named, and others go on.

    Returns:
        Files written.

    Raises:
        LLGBMError: parts that failed, once all others are done.
    """
    config.out.mkdir(parents=True, exist_ok=True)
    begin, written, failed = time.monotonic(), [], []
    for name, part in parts(config).items():
        path = config.out / f"{config.label}-{name}.json"
        if time.monotonic() - begin > 60 * config.minutes:
            print(f"{name}: left out, {config.minutes:g} minutes are over", flush=True)
            continue
        print(f"\n[{name}] after {time.monotonic() - begin:.0f} s", flush=True)
        try:
            part(path)
            written.append(path)
        except (LLGBMError, RuntimeError) as error:
            print(f"{name}: {error}", flush=True)
            failed.append(name)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    written += report(ReportConfig(config.out, config.out / "plots"))
    print(f"\ntook {time.monotonic() - begin:.0f} s; files in {config.out}")
    if failed:
        raise LLGBMError(f"parts: expected all to pass, got failures in {', '.join(failed)}")
    return written


def parts(config: AllConfig) -> dict[str, Callable[[Path], Any]]:
    """Parts by name, the claims of docs/results.md first."""
    cuda = torch.cuda.is_available()
    found: dict[str, Callable[[Path], Any]] = {}

    def add_kernels(name: str, base: KernelsConfig) -> None:
        found[name] = lambda path: kernels(replace(base, out=path, seed=config.seed))

    def add_delta(name: str, base: DeltaForwardConfig) -> None:
        found[name] = lambda path: delta_forward(replace(base, out=path, seed=config.seed))

    if cuda:
        # The targets: r 16, n 8, 5 probes of 128 tokens.
        wide = ("qwen2.5-0.5b", "qwen2.5-1.5b")
        target = KernelsConfig(wide, (8,), (640,), (16,), repeats=50, compiled=True)
        add_kernels("kernels-target", target)
        for model in MODELS:
            short = model.removeprefix("random:")
            add_delta(f"delta-{short}", DeltaForwardConfig(model, "auto", 8, 5, 128, 16, 7))
        found["teach"] = lambda path: teach(TeachConfig(n=8, t=128, out=path, seed=config.seed))
        add_kernels("kernels", KernelsConfig(n=(1, 8, 32), r=(8, 16, 64), repeats=10))
    else:
        add_delta("delta-smollm2-135m", DeltaForwardConfig(n=8, p=5, t=40, r=8, repeats=5))
        small = KernelsConfig(("smollm2-135m",), (1, 8), (200,), (8, 16), repeats=7)
        add_kernels("kernels", small)
        found["teach"] = lambda path: teach(TeachConfig(repeats=3, out=path, seed=config.seed))
    sizes = GeneratorStepConfig(n=32, t=128, codes=48) if cuda else GeneratorStepConfig(repeats=3)
    found["generator-step"] = lambda path: generator_step(
        replace(sizes, out=path, seed=config.seed)
    )
    found["generate"] = lambda path: generate(GenerateConfig(out=path, seed=config.seed))
    prompts = (
        LatentwireConfig(repeats=10) if cuda else LatentwireConfig(tokens=(64, 256), repeats=3)
    )
    found["latentwire"] = lambda path: latentwire(replace(prompts, out=path, seed=config.seed))
    # A thousand checkpoints of a million numbers take minutes and 8 GB of disk: on request.
    found["sideways"] = lambda path: sideways(
        SidewaysConfig(20, 5, blocks=2, out=path, seed=config.seed)
    )
    return found
