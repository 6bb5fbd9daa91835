"""Ablations: what is varied, and how each variant is trained (seed 001, phases 4 to 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from llgbm.generators.decoders import FullWidthConfig, HyperConvConfig, PeriodicConfig
from llgbm.generators.losses import (
    DeltaGuided,
    DeltaOnly,
    DeltaWeightLoss,
    MultiTask,
    Ramp,
    TokenWeightLoss,
)
from llgbm.generators.losses.recommended import recommended_objective
from llgbm.generators.training.config import ConditionShares, TrainConfig

# From the configuration of a preset to that of a variant.
Change = Callable[[TrainConfig], TrainConfig]


@dataclass(frozen=True)
class Ablation:
    """One question.

    Attributes:
        question: in words.
        variants: name -> how it is trained. The first is the reference that others are
            compared with, pair by pair.
        equal_time: give every variant the same seconds of training steps in place of the same
            number of them.
        separate_A: variants whose teachers each start from an A of their own.
    """

    question: str
    variants: Mapping[str, Change]
    equal_time: bool = False
    separate_A: frozenset[str] = frozenset()


def _lambda(value: float) -> Change:
    """From the first tenth on: a term that begins late cannot matter for a best step before."""

    def change(config: TrainConfig) -> TrainConfig:
        ramp = Ramp(config.steps // 10, config.steps // 10)
        return replace(config, objective=MultiTask(lambda_delta=value, schedule=ramp))

    return change


def _guided(every_n: int, kl: float = 0.0, sft: float = 0.0) -> Change:
    """Delta guided without weights, as the seed has it: head, computed delta, consistency."""
    objective = DeltaGuided(every_n=every_n, lambda_kl=kl, lambda_sft=sft)
    return lambda config: replace(config, objective=objective)


def _probes(name: str) -> Change:
    return lambda c: replace(c, probes=name, objective=recommended_objective(c.steps))


def _deltas(**fields: Any) -> Change:
    """Other deltas than the recommended; without KL, which not all of them can tell."""

    def change(config: TrainConfig) -> TrainConfig:
        objective = replace(recommended_objective(config.steps), lambda_kl=0.0)
        return replace(config, deltas=replace(config.chosen_deltas, **fields), objective=objective)

    return change


def _same(config: TrainConfig) -> TrainConfig:
    return config


_ALL = {
    "main": Ablation(
        "What is behaviour worth beside weights, at equal time?",
        {
            "weights only": lambda c: replace(c, objective=MultiTask(lambda_delta=0.0)),
            "recommended": lambda c: replace(c, objective=recommended_objective(c.steps)),
            "delta only": lambda c: replace(c, objective=DeltaOnly()),
            "delta guided, N 5": _guided(5),
        },
        equal_time=True,
    ),
    "lambda": Ablation(
        "How much should the computed delta weigh beside the weights?",
        {
            "0": _lambda(0.0),
            "0.01": _lambda(0.01),
            "0.1": _lambda(0.1),
            "1": _lambda(1.0),
        },
    ),
    "probes": Ablation(
        "How many probes, and of what kind?",
        {
            "generic-5": _probes("generic"),
            "generic-10": _probes("generic-10"),
            "generic-20": _probes("generic-20"),
            "math": _probes("math"),
            "code": _probes("code"),
            "generic+math": _probes("generic+math"),
        },
    ),
    "representation": Ablation(
        "Which hidden states is a delta read off?",
        {
            "several layers": _deltas(),
            "last layer": _deltas(layers=(-1,)),
            "several layers, mean of tokens": _deltas(pooling="mean"),
        },
    ),
    "aggregation": Ablation(
        "Does the mean over probes say as much as every probe, in the last layer?",
        {
            "per probe": _deltas(layers=(-1,)),
            "mean": _deltas(layers=(-1,), aggregation="mean"),
        },
    ),
    "objective": Ablation(
        "What should a generator be trained on, at equal time?",
        {
            "weights only": lambda c: replace(c, objective=MultiTask(lambda_delta=0.0)),
            "recommended": lambda c: replace(c, objective=recommended_objective(c.steps)),
            "delta only": lambda c: replace(c, objective=DeltaOnly()),
            "delta only, norm, KL": lambda c: replace(
                c, objective=DeltaOnly(norm_penalty=0.01, lambda_kl=0.1)
            ),
            "delta guided, N 1": _guided(1),
            "delta guided, N 5": _guided(5),
            "delta guided, N 20": _guided(20),
            "delta guided, N 5, KL": _guided(5, kl=0.1),
            "delta guided, N 5, SFT": _guided(5, sft=0.1),
        },
        equal_time=True,
    ),
    "weights": Ablation(
        "Are factors compared, the updates that they make, or tokens of factors?",
        {
            "factors": lambda c: replace(c, objective=MultiTask(lambda_delta=0.0)),
            "updates": lambda c: replace(
                c, objective=MultiTask(lambda_delta=0.0, weight_loss=DeltaWeightLoss())
            ),
            "tokens": lambda c: replace(
                c, objective=MultiTask(lambda_delta=0.0, weight_loss=TokenWeightLoss())
            ),
        },
    ),
    "initialisation": Ablation(
        "Does it matter that teachers start from one A?",
        {"shared A": _same, "separate A": _same},
        separate_A=frozenset({"separate A"}),
    ),
    "decoder": Ablation(
        "Which decoder?",
        {
            "full width": _same,
            "full width, 3 codes": lambda c: replace(c, decoder=FullWidthConfig(codes=3)),
            "periodic": lambda c: replace(c, decoder=PeriodicConfig()),
            "HyperConv": lambda c: replace(c, decoder=HyperConvConfig()),
        },
    ),
    "conditions": Ablation(
        "Do answers in the condition help?",
        {
            "prompts": lambda c: replace(c, conditions=ConditionShares(1.0, 0.0, 0.0)),
            "prompts with answers": lambda c: replace(c, conditions=ConditionShares(0.0, 1.0, 0.0)),
            "prompts and descriptions": _same,
        },
    ),
}
ABLATIONS: Mapping[str, Ablation] = MappingProxyType(_ALL)
