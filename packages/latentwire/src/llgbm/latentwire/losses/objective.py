"""A loss: named terms, each with a weight that follows a schedule, all of them logged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from llgbm.latentwire.compressor import Compressor
from llgbm.latentwire.errors import ConfigError
from llgbm.latentwire.losses.base import Term
from llgbm.latentwire.losses.step import Step
from llgbm.latentwire.reader import Reader

SMOOTHING = 0.9
# What a gate looks at: the term that logs it, the number's name in the log.
GATE_NUMBERS = {
    "answer": ("answer", "loss/answer"),
    "cosine": ("reconstruction", "reconstruction/cosine"),
}


class Objective(nn.Module):
    """Sum of weight * schedule * term.

    Args:
        configs: of the terms; names must differ.
        compressor: being trained.
        reader: frozen.

    Raises:
        ConfigError: no terms, the same one twice, weights that are negative or all zero, or a gate
            on a term that is not there or itself gated.
    """

    def __init__(self, configs: Sequence[Any], compressor: Compressor, reader: Reader) -> None:
        super().__init__()
        names = [config.name for config in configs]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"losses: expected different terms, at least one, got {names}")
        for config in configs:
            if not 0 <= config.weight < math.inf:
                raise ConfigError(
                    f"{config.name}.weight: expected at least 0, finite, got {config.weight:g}"
                )
        if not any(config.weight > 0 for config in configs):
            raise ConfigError("losses: expected a weight above 0, got none")
        self.configs = {config.name: config for config in configs}
        self._check_gates()
        self.terms = nn.ModuleDict(
            {config.name: config.build(compressor, reader) for config in configs}
        )
        self.to(reader.device)
        # Steps at which a gated term's schedule began, by name.
        self.opened: dict[str, int] = {}
        # What gates look at, by their names; missing until it was seen.
        self.smoothed: dict[str, float] = {}

    def forward(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """Loss of a step, and what to log; see `contributions`."""
        values, log = self.contributions(step)
        return torch.stack(list(values.values())).sum(), log

    def contributions(self, step: Step) -> tuple[dict[str, Tensor], dict[str, float]]:
        """What every active term adds to the loss of a step, and what to log.

        Gates and smoothed numbers follow in training mode only.

        Returns:
            (values, log): scalars by term; `loss/NAME` is a term as it is, `weighted/NAME` what it
            adds (anchor rule 16).

        Raises:
            ConfigError: every weight is 0 at this step.
        """
        factors = {name: self._factor(name, step) for name in self.terms}
        # Terms that read layers come first: their pass over the reader then serves all others.
        order = sorted(self.terms, key=lambda name: not self._term(name).reads_layers)
        values: dict[str, Tensor] = {}
        log: dict[str, float] = {}
        for name in order:
            if factors[name] == 0:
                continue
            value = self._term(name)(step)
            values[name] = factors[name] * value
            log[f"loss/{name}"] = float(value.detach())
            log[f"weighted/{name}"] = factors[name] * log[f"loss/{name}"]
            log |= {f"{name}/{key}": number for key, number in self._term(name).logged.items()}
        if not values:
            raise ConfigError(f"losses: step {step.number}: expected a weight above 0, got none")
        if self.training:
            for gate, (_, key) in GATE_NUMBERS.items():
                if key in log:
                    old = self.smoothed.get(gate, log[key])
                    self.smoothed[gate] = SMOOTHING * old + (1 - SMOOTHING) * log[key]
        return values, log

    def state(self) -> dict[str, Any]:
        """What a resumed run has to know beside parameters and buffers."""
        return {"opened": dict(self.opened), "smoothed": dict(self.smoothed)}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.opened = {str(name): int(step) for name, step in state["opened"].items()}
        self.smoothed = {str(name): float(value) for name, value in state["smoothed"].items()}

    def _term(self, name: str) -> Term:
        return cast(Term, self.terms[name])

    def _factor(self, name: str, step: Step) -> float:
        """Weight of a term at a step."""
        config = self.configs[name]
        schedule = config.schedule
        if not schedule.gate:
            return float(config.weight * schedule.factor(step.number / max(1, step.steps)))
        if name not in self.opened:
            seen = self.smoothed.get(schedule.gate_on)
            passed = seen is not None and (
                seen < schedule.gate if schedule.gate_on == "answer" else seen > schedule.gate
            )
            if not passed or not self.training:
                return float(config.weight * schedule.first)
            self.opened[name] = step.number
        begun = self.opened[name]
        done = (step.number - begun) / max(1, step.steps - begun)
        return float(config.weight * schedule.factor(done))

    def _check_gates(self) -> None:
        """Refuse gates that could never open."""
        for name, config in self.configs.items():
            if not config.schedule.gate:
                continue
            wanted = GATE_NUMBERS[config.schedule.gate_on][0]
            watched = self.configs.get(wanted)
            if watched is None or watched.weight == 0 or watched.schedule.gate:
                raise ConfigError(
                    f"{name}.schedule.gate: expected a term {wanted!r} with a weight and without "
                    f"a gate to wait for, got {'none' if watched is None else watched}"
                )
