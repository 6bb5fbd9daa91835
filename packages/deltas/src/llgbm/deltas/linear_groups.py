"""Linears of one parent that read the same tensor: q, k and v, or gate and up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from llgbm.deltas.spec import LoRASpec

SHARING = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


def linear_groups(spec: LoRASpec) -> list[tuple[str, ...]]:
    """Paths of the spec in its order, those that share their input together.

    Args:
        spec: modules; a group holds those of its kind that the spec has.
    """
    groups: dict[tuple[str, int, str], list[str]] = {}
    for module in spec.modules:
        parent = module.path.rpartition(".")[0]
        kind = next((i for i, names in enumerate(SHARING) if module.name in names), None)
        key = (parent, -1, module.name) if kind is None else (parent, kind, "")
        groups.setdefault(key, []).append(module.path)
    return [tuple(paths) for paths in groups.values()]


class GroupForward:
    """Computes all linears of a group when the first is called, and hands out the rest.

    The model calls q, k and v one after another with one tensor. Whichever comes first computes
    all; the others find their output waiting, if they are given the very same tensor.

    Args:
        compute: x -> output of every linear, in order.
    """

    def __init__(self, compute: Callable[[Tensor], Sequence[Tensor]]) -> None:
        self.compute = compute
        self._x: Tensor | None = None
        self._waiting: dict[int, Tensor] = {}

    def forward_of(self, index: int) -> Callable[[Tensor], Tensor]:
        """The forward of the group's linear number `index`."""

        def forward(x: Tensor) -> Tensor:
            if x is not self._x or index not in self._waiting:
                self._x, self._waiting = x, dict(enumerate(self.compute(x)))
            y = self._waiting.pop(index)
            if not self._waiting:
                self._x = None
            return y

        return forward


def shares_type(linears: Sequence[nn.Module]) -> bool:
    """Whether one call can serve them: equal input sizes, dtypes and devices."""
    kinds: set[tuple[Any, ...]] = {
        (linear.in_features, linear.weight.dtype, linear.weight.device) for linear in linears
    }
    return len(kinds) == 1
