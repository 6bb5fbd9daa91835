"""AdapterPool: the distinct adapters of one task, and which of them each arm is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights


@dataclass
class AdapterPool:
    """Distinct adapters of one task; what several arms use is scored once.

    Attributes:
        weights: one adapter (n = 1) each; specs may differ.
        prefixes: text put before the queries when the adapter is scored; mostly empty.
        keys: what each adapter is, `teacher:ID` for a teacher.
        arms: arm -> places of its adapters. In an arm that is made once a generator they stand
            in the order of the generators, and a place may come twice.
    """

    weights: list[LoRAWeights] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    arms: dict[str, list[int]] = field(default_factory=dict)

    def add(self, arm: str, key: str, weights: Callable[[], LoRAWeights], prefix: str = "") -> None:
        """Give `arm` the adapter called `key`, which is made where no arm has it yet.

        Args:
            arm: its name.
            key: says what the adapter is; equal keys are equal adapters.
            weights: makes it (n = 1).
            prefix: see `prefixes`.
        """
        if key not in self.keys:
            made = weights()
            made.check_finite(key)
            self.weights.append(made.to("cpu"))
            self.prefixes.append(prefix)
            self.keys.append(key)
        self.arms.setdefault(arm, []).append(self.keys.index(key))

    def groups(self) -> dict[tuple[LoRASpec, str], list[int]]:
        """Places of the adapters that can run in one forward: one spec, one prefix."""
        found: dict[tuple[LoRASpec, str], list[int]] = {}
        for place, (weights, prefix) in enumerate(zip(self.weights, self.prefixes, strict=True)):
            found.setdefault((weights.spec, prefix), []).append(place)
        return found

    def batch(self, places: list[int]) -> LoRAWeights:
        """The adapters at `places` of one group, n = len(places)."""
        return LoRAWeights.concatenate([self.weights[place] for place in places])
