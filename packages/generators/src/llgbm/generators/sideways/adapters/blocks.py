"""Adapters as blocks of weights, and back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights
from llgbm.generators.sideways.collection.records import Block


def blocks_of(spec: LoRASpec) -> tuple[Block, ...]:
    """Two blocks a module: lora_A [r, in] and lora_B [out, r]."""
    return tuple(
        block
        for module in spec.modules
        for block in (
            Block(f"{module.path}.lora_A", (spec.r, module.in_features)),
            Block(f"{module.path}.lora_B", (module.out_features, spec.r)),
        )
    )


def to_blocks(weights: LoRAWeights, index: int) -> dict[str, Tensor]:
    """Factors of adapter `index` by block name."""
    found = {}
    for path in weights.spec.paths:
        found[f"{path}.lora_A"] = weights.lora_A[path][index]
        found[f"{path}.lora_B"] = weights.lora_B[path][index]
    return found


def from_blocks(spec: LoRASpec, blocks: Mapping[str, Tensor]) -> LoRAWeights:
    """n adapters of blocks [n, ...] by name."""
    return LoRAWeights(
        spec,
        {path: blocks[f"{path}.lora_A"] for path in spec.paths},
        {path: blocks[f"{path}.lora_B"] for path in spec.paths},
    )
