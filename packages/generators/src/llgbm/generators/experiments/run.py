"""`llgbm experiment NAME`: one command for every question about the method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from llgbm.deltas.errors import SettingError, require_seed
from llgbm.generators.experiments.presets import PresetName
from llgbm.generators.runs import RunFolder, alone
from llgbm.generators.teachers.shards import ShardData

Experiment = Literal[
    "aggregation",
    "composition",
    "conditions",
    "decoder",
    "initialisation",
    "lambda",
    "main",
    "objective",
    "probes",
    "representation",
    "vae-augmentation",
    "vae-comparison",
    "vae-discrete",
    "vae-gaussian",
    "vae-hierarchical",
    "vae-prior",
    "weights",
]


@dataclass(frozen=True)
class ExperimentConfig:
    """Answer one question about the method.

    Args:
        name: of the experiment; `main` is the whole job of a preset.
        preset: sizes: `demo` (minutes), `small` (an hour on two cores), `gpu`.
        run: run folder; experiments of one preset share its teachers. runs/PRESET-experiments
            where not given, or runs/PRESET-vae. A second call goes on where the first stopped.
        out: file that the results are copied to; a folder for `main`.
        variants: names of those to run, of an ablation; all where not given.
        teachers: of a `vae-` experiment: `shared`, runs on the same examples in other orders, or
            `disjoint`, those of the main job.
        base_model: `smollm2-135m`, a local folder or a hub id.
        seed: of teachers and data; generators count up from it.
    """

    name: Annotated[Experiment, tyro.conf.Positional]
    preset: PresetName = "demo"
    run: Path | None = None
    out: Path | None = None
    variants: tuple[str, ...] = ()
    teachers: ShardData | None = None
    base_model: str = "smollm2-135m"
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)
        if self.teachers and not self.is_vae:
            raise SettingError(f"teachers: expected none for {self.name}, got {self.teachers}")
        if self.name in ("composition", "main") and self.variants:
            raise SettingError(f"variants: expected none for {self.name}, got {self.variants}")

    @property
    def is_vae(self) -> bool:
        """Whether it asks about VAEs."""
        return self.name.startswith("vae-")

    @property
    def root(self) -> Path:
        """The run folder given, or the preset's."""
        suffix = "vae" if self.is_vae and self.teachers != "disjoint" else "experiments"
        return self.run or Path("runs") / f"{self.preset}-{suffix}"


def run_experiment(config: ExperimentConfig) -> None:
    """Run the experiment; see run_main, run_ablations, run_composition and run_vae_experiment.

    Raises:
        RunError: another experiment works in the run folder.
    """
    # Settings that fit nothing are told before a folder is made.
    work = _work(config, config.root)
    with alone(RunFolder(config.root)):
        work()


def _work(config: ExperimentConfig, root: Path) -> Callable[[], object]:
    """What the experiment does, with its settings checked."""
    base = (config.base_model, config.seed)
    if config.name == "main":
        from llgbm.generators.experiments.run_main import MainConfig, run_main

        return partial(run_main, MainConfig(config.preset, root, config.out, *base))
    if config.name == "composition":
        from llgbm.generators.experiments.run_composition import (
            CompositionConfig,
            run_composition,
        )

        composition = CompositionConfig(
            config.preset, root, out=config.out, base_model=config.base_model, seed=config.seed
        )
        return partial(run_composition, composition)
    if config.is_vae:
        from llgbm.generators.vae.experiments.run import VAEExperimentConfig, run_vae_experiment

        vae = VAEExperimentConfig(
            config.name, root, config.preset, config.out, config.variants,
            config.teachers or "shared", *base,
        )  # fmt: skip
        return partial(run_vae_experiment, vae)
    from llgbm.generators.experiments.run_ablations import AblationConfig, run_ablations

    ablation = AblationConfig(config.name, config.preset, root, config.out, config.variants, *base)
    return partial(run_ablations, ablation)
