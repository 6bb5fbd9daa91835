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
    "sideways",
    "vae-augmentation",
    "vae-comparison",
    "vae-discrete",
    "vae-gaussian",
    "vae-hierarchical",
    "vae-interpolation",
    "vae-prior",
    "vae-transfer",
    "weights",
]


@dataclass(frozen=True)
class ExperimentConfig:
    """Answer one question about the method.

    Args:
        name: of the experiment; `main` is the whole job of a preset.
        preset: sizes: `demo` (minutes), `small` (an hour on two cores), `gpu`. A VAE takes a
            quarter of an hour at either of the first two: a `vae-` experiment takes hours.
        run: run folder; experiments with the same teachers can share it. Where not given:
            runs/PRESET-experiments; runs/PRESET-vae or runs/PRESET-vae-disjoint for `vae-` ones;
            runs/PRESET-vae-transfer; runs/PRESET-sideways. A second call goes on where the first
            stopped.
        out: file that the results are copied to; a folder for `main`.
        variants: names of those to run, of an ablation; all where not given.
        teachers: of a `vae-` experiment: `shared`, runs on the same examples in other orders, or
            `disjoint`, each on its own, as the main job's. `vae-transfer` teaches as `sources` was.
        transfer_from: folder of the VAE that `vae-transfer` moves to `base_model`.
        sources: run folder with the teachers that it was trained on; the same are taught here.
        base_model: `smollm2-135m`, a local folder or a hub id.
        seed: of teachers and data; generators count up from it.
    """

    name: Annotated[Experiment, tyro.conf.Positional]
    preset: PresetName = "demo"
    run: Path | None = None
    out: Path | None = None
    variants: tuple[str, ...] = ()
    teachers: ShardData | None = None
    transfer_from: Path | None = None
    sources: Path | None = None
    base_model: str = "smollm2-135m"
    seed: int = 0

    def __post_init__(self) -> None:
        require_seed(self.seed)
        if self.teachers and not self.is_vae:
            raise SettingError(f"teachers: expected none for {self.name}, got {self.teachers}")
        if self.teachers and self.sources:
            raise SettingError(f"teachers: expected none beside sources, got {self.teachers}")
        if not self.is_vae and (self.transfer_from or self.sources):
            got = f"{self.transfer_from} and {self.sources}"
            raise SettingError(
                f"transfer_from and sources: expected neither for {self.name}, got {got}"
            )
        if self.name in ("composition", "main", "sideways") and self.variants:
            raise SettingError(f"variants: expected none for {self.name}, got {self.variants}")

    @property
    def is_vae(self) -> bool:
        """Whether it asks about VAEs."""
        return self.name.startswith("vae-")

    @property
    def root(self) -> Path:
        """The run folder given, or the preset's."""
        suffix = "experiments"
        if self.name in ("vae-transfer", "sideways"):
            suffix = self.name
        elif self.is_vae:
            suffix = "vae-disjoint" if self.teachers == "disjoint" else "vae"
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
    if config.name == "sideways":
        from llgbm.generators.sideways.experiment.run import (
            SidewaysExperimentConfig,
            run_sideways_experiment,
        )

        sideways = SidewaysExperimentConfig(root, config.preset, config.out, *base)
        return partial(run_sideways_experiment, sideways)
    if config.is_vae:
        from llgbm.generators.vae.experiments.config import VAEExperimentConfig
        from llgbm.generators.vae.experiments.run import run_vae_experiment

        vae = VAEExperimentConfig(
            config.name, root, config.preset, config.out, config.variants,
            config.teachers or "shared", config.transfer_from, config.sources, *base,
        )  # fmt: skip
        return partial(run_vae_experiment, vae)
    from llgbm.generators.experiments.run_ablations import AblationConfig, run_ablations

    ablation = AblationConfig(config.name, config.preset, root, config.out, config.variants, *base)
    return partial(run_ablations, ablation)
