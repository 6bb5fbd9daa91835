"""PEFT's mixed batch: adapters named row by row, forward only (it refuses to train so)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from llgbm.bench.layer import Group


class PeftMixed:
    """A group's linears wrapped by PEFT, with all n adapters loaded.

    Args:
        group: numbers.
        scaling: of every adapter, lora_alpha / r.
    """

    def __init__(self, group: Group, scaling: float) -> None:
        from peft import LoraConfig, get_peft_model

        linears = {}
        for g, (weight, bias) in enumerate(zip(group.weights, group.biases, strict=True)):
            out, inside = weight.shape
            linear = nn.Linear(inside, out, bias is not None, weight.device, weight.dtype)
            linear.weight = nn.Parameter(weight, requires_grad=False)
            if bias is not None:
                linear.bias = nn.Parameter(bias, requires_grad=False)
            linears[f"linear{g}"] = linear
        r = group.lora_A[0].shape[1]
        config = LoraConfig(r=r, lora_alpha=int(scaling * r), target_modules=list(linears))
        self.names = [f"a{i}" for i in range(len(group.x))]
        model: Any = get_peft_model(_Bag(linears), config, adapter_name=self.names[0])
        for name in self.names[1:]:
            model.add_adapter(name, config)
        model.to(group.x.device).eval()
        self.layers = [getattr(model.base_model.model, name) for name in linears]
        with torch.no_grad():
            for layer, A, B in zip(self.layers, group.lora_A, group.lora_B, strict=True):
                for i, name in enumerate(self.names):
                    layer.lora_A[name].weight.copy_(A[i])
                    layer.lora_B[name].weight.copy_(B[i])

    @torch.no_grad()
    def __call__(self, group: Group) -> Sequence[Tensor]:
        """Outputs [n, m, out] of each linear."""
        return [layer(group.x, adapter_names=self.names) for layer in self.layers]


class _Bag(nn.Module):
    """Linears by name; PEFT wants a module around what it adapts."""

    def __init__(self, linears: dict[str, nn.Linear]) -> None:
        super().__init__()
        for name, linear in linears.items():
            self.add_module(name, linear)

    def forward(self, x: Tensor) -> Tensor:
        """Never called: the linears are run one by one."""
        return x
