"""Ways to compute a group of adapted linears, each as its users write it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.bench.layer import Group
from llgbm.lora_kernels import lora_linear_grouped
from llgbm.lora_kernels.backends import Backend, has_triton
from llgbm.lora_kernels.naive import naive_lora_linear

# (group, scaling [n]) -> outputs [n, m, out] of its linears
GroupForward = Callable[[Group, Tensor], Sequence[Tensor]]


def ours(group: Group, scaling: Tensor, backend: Backend) -> Sequence[Tensor]:
    """This project's layer."""
    return lora_linear_grouped(
        group.x,
        group.weights,
        group.lora_A,
        group.lora_B,
        scaling,
        group.biases,
        backend=backend,
    )


def definition(group: Group, scaling: Tensor) -> Sequence[Tensor]:
    """The reference, for float64."""
    return [
        naive_lora_linear(group.x, weight, A, B, scaling.to(group.x.dtype), bias)
        for weight, A, B, bias in _linears(group)
    ]


def base_alone(group: Group, scaling: Tensor) -> Sequence[Tensor]:
    """The frozen linears without adapters: what the slowdown is measured against."""
    return [F.linear(group.x, weight, bias) for weight, _, _, bias in _linears(group)]


def eager_bmm(group: Group, scaling: Tensor) -> Sequence[Tensor]:
    """Plain batched products under autograd."""
    x, s = group.x, scaling.to(group.x.dtype)[:, None, None]
    return [
        F.linear(x, weight, bias) + s * torch.bmm(torch.bmm(x, A.to(x.dtype).mT), B.to(x.dtype).mT)
        for weight, A, B, bias in _linears(group)
    ]


def inplace_baddbmm(group: Group, scaling: Tensor) -> Sequence[Tensor]:
    """The adapters' part added in place to the base product, under autograd."""
    x, s = group.x, scaling.to(group.x.dtype)[:, None, None]
    return [
        F.linear(x, weight, bias).baddbmm_(torch.bmm(x, A.to(x.dtype).mT) * s, B.to(x.dtype).mT)
        for weight, A, B, bias in _linears(group)
    ]


def one_at_a_time(group: Group, scaling: Tensor) -> Sequence[Tensor]:
    """Adapter by adapter, as PEFT and hooks run."""
    x = group.x
    outputs = []
    for weight, A, B, bias in _linears(group):
        parts = [
            F.linear(x[i], weight, bias)
            + F.linear(F.linear(x[i], A[i].to(x.dtype)), B[i].to(x.dtype)) * scaling[i].to(x.dtype)
            for i in range(len(x))
        ]
        outputs.append(torch.stack(parts))
    return outputs


def grouped_mm(group: Group, scaling: Tensor) -> Sequence[Tensor]:
    """torch's own grouped product, the baseline of ragged training: bfloat16, r a multiple of 8."""
    x = group.x
    n, m, inside = x.shape
    flat = x.reshape(n * m, inside)
    ends = torch.arange(1, n + 1, device=x.device, dtype=torch.int32) * m
    s = scaling.to(x.dtype).repeat_interleave(m)[:, None]
    outputs = []
    for weight, A, B, bias in _linears(group):
        u = torch._grouped_mm(flat, A.to(x.dtype).mT, offs=ends)
        update = torch._grouped_mm(u * s, B.to(x.dtype).mT, offs=ends)
        outputs.append((F.linear(flat, weight, bias) + update).view(n, m, -1))
    return outputs


def layer_rivals(device: torch.device, dtype: torch.dtype, compile_too: bool) -> dict[str, Any]:
    """Rivals that can run here, by name; those that cannot are left to `left_out`."""
    found: dict[str, GroupForward] = {}
    if device.type == "cuda" and has_triton():
        found["ours_triton"] = partial(ours, backend="triton")
        found["ours_triton_fused"] = partial(ours, backend="triton_fused")
    found["ours_torch"] = partial(ours, backend="torch")
    found["inplace_baddbmm"] = inplace_baddbmm
    found["eager_bmm"] = eager_bmm
    found["one_at_a_time"] = one_at_a_time
    if compile_too:
        found["compiled_baddbmm"] = torch.compile(inplace_baddbmm)
        found["compiled_bmm"] = torch.compile(eager_bmm)
    if dtype == torch.bfloat16 and device.type == "cuda":
        found["grouped_mm"] = grouped_mm
    return found


def _linears(group: Group) -> list[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    return list(zip(group.weights, group.lora_A, group.lora_B, group.biases, strict=True))
