"""Modules of equal shape, so that a batch of 210 modules is a handful of batched products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights


@dataclass(frozen=True)
class ModuleGroup:
    """Modules that share (in, out).

    Attributes:
        in_features: input width of each.
        out_features: output width of each.
        paths: in the order of the spec.
        indices: positions of `paths` in the spec.
    """

    in_features: int
    out_features: int
    paths: tuple[str, ...]
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)


def module_groups(spec: LoRASpec) -> tuple[ModuleGroup, ...]:
    """Group the modules of `spec` by shape, in order of first appearance."""
    members: dict[tuple[int, int], list[int]] = {}
    for index, module in enumerate(spec.modules):
        members.setdefault((module.in_features, module.out_features), []).append(index)
    return tuple(
        ModuleGroup(*shape, tuple(spec.paths[index] for index in indices), tuple(indices))
        for shape, indices in members.items()
    )


def stack_group(factors: Mapping[str, Tensor], group: ModuleGroup) -> Tensor:
    """Stack the factors of a group.

    Args:
        factors: by module path, each [n, rows, columns].

    Returns:
        [modules of the group, n, rows, columns].
    """
    return torch.stack([factors[path] for path in group.paths])


def unstack_groups(
    spec: LoRASpec, groups: Sequence[ModuleGroup], lora_A: list[Tensor], lora_B: list[Tensor]
) -> LoRAWeights:
    """Split stacked factors into LoRAWeights without copying.

    `unbind` matters: its backward is one stack, where indexing would allocate a
    gradient of the whole group for every module.

    Args:
        lora_A: per group, [modules, n, r, in].
        lora_B: per group, [modules, n, out, r].
    """
    by_path_A: dict[str, Tensor] = {}
    by_path_B: dict[str, Tensor] = {}
    for group, stacked_A, stacked_B in zip(groups, lora_A, lora_B, strict=True):
        by_path_A.update(zip(group.paths, stacked_A.unbind(0), strict=True))
        by_path_B.update(zip(group.paths, stacked_B.unbind(0), strict=True))
    return LoRAWeights(spec, by_path_A, by_path_B)
