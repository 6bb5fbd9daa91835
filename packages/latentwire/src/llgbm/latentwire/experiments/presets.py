"""Sizes of the experiments."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

PresetName = Literal["smoke", "small", "gpu"]


@dataclass(frozen=True)
class LatentwirePreset:
    """How much is trained and measured.

    Args:
        steps: optimiser steps of every training of the seed's tables.
        batch_size: questions of a step.
        select_steps: of the recipe by keys and values, in which positions are ranked.
        pretrain_steps: of the recipe, on passages or on questions of many tasks.
        tune_steps: of the recipe, on questions.
        pretrain_ratio: tokens a slot in pretraining (ARC-Encoder: pretrain at 8, tune at 4).
        r: LoRA rank of the recipe's encoder.
        questions: of a table, from the validation articles.
        test_questions: of the recipe, from the test articles.
        seeds: of the recipe's second stage; the seed's tables have the first one.
        longest: words of a passage; longer ones are left out. 0 keeps all.
        oracle_samples: texts of the capacity oracle.
        oracle_steps: of its optimisation.
        overfit_samples: questions that a compressor is trained on until it knows them.
        overfit_steps: of that.
    """

    steps: int
    batch_size: int
    select_steps: int
    pretrain_steps: int
    tune_steps: int
    pretrain_ratio: float
    r: int
    questions: int
    test_questions: int
    seeds: tuple[int, ...]
    longest: int
    oracle_samples: int
    oracle_steps: int
    overfit_samples: int
    overfit_steps: int


PRESETS = MappingProxyType(
    {
        "smoke": LatentwirePreset(
            steps=2, batch_size=2, select_steps=2, pretrain_steps=2, tune_steps=2,
            pretrain_ratio=8.0, r=4, questions=8, test_questions=8, seeds=(0,), longest=80,
            oracle_samples=1, oracle_steps=5, overfit_samples=4, overfit_steps=2,
        ),
        "small": LatentwirePreset(
            steps=30, batch_size=8, select_steps=120, pretrain_steps=300, tune_steps=40,
            pretrain_ratio=4.0, r=32, questions=40, test_questions=109, seeds=(0, 1, 2),
            longest=120, oracle_samples=8, oracle_steps=150, overfit_samples=64,
            overfit_steps=120,
        ),
        "gpu": LatentwirePreset(
            steps=300, batch_size=32, select_steps=300, pretrain_steps=4000, tune_steps=300,
            pretrain_ratio=8.0, r=128, questions=200, test_questions=222, seeds=(0, 1, 2),
            longest=0, oracle_samples=8, oracle_steps=300, overfit_samples=64,
            overfit_steps=400,
        ),
    }
)  # fmt: skip
