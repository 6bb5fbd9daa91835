"""Sizes of the sideways experiment."""

from __future__ import annotations

from dataclasses import dataclass, field

from llgbm.generators.experiments.presets import PresetName
from llgbm.generators.sideways.adapters.hyperparameters import HyperparameterRanges
from llgbm.generators.sideways.adapters.source import AdapterRuns
from llgbm.generators.sideways.model.config import SidewaysTraining


@dataclass(frozen=True)
class SidewaysPreset:
    """How much is collected, fitted and measured.

    Attributes:
        runs: adapter runs of the collection.
        training: of every sideways VAE.
        seeds: of splits, fits and searches.
        proposals: checkpoints that every arm may name.
        path: points of a way.
        start_steps: most optimiser steps from a start.
        start_every: steps between measurements from a start.
    """

    runs: AdapterRuns
    training: SidewaysTraining = field(default_factory=SidewaysTraining)
    seeds: tuple[int, ...] = (0, 1, 2)
    proposals: int = 8
    path: int = 7
    start_steps: int = 16
    start_every: int = 2


SIDEWAYS_PRESETS: dict[PresetName, SidewaysPreset] = {
    "demo": SidewaysPreset(
        AdapterRuns(
            runs=6,
            steps=8,
            keep_every=2,
            scored=16,
            texts=4,
            ranges=HyperparameterRanges(examples_high=64),
        ),
        SidewaysTraining(steps=200),
        seeds=(0,),
        proposals=4,
        path=3,
        start_steps=4,
    ),
    "small": SidewaysPreset(AdapterRuns(runs=16, scored=96, texts=16)),
    "gpu": SidewaysPreset(
        AdapterRuns(
            runs=64, steps=64, keep_every=4, examples_per_step=16, r=8, lora_alpha=16.0,
            scored=180, texts=16,
        ),
        SidewaysTraining(steps=1500, runs_per_step=8),
        proposals=16,
        start_steps=32,
    ),
}  # fmt: skip
