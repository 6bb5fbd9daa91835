"""Checks at the boundary: every error names the argument, what was expected and what came."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad

from llgbm.lora_kernels.segments import Segments

ACTIVATIONS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def require_tensor(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a dense tensor."""
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        got = value.layout if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"{name}: expected a dense tensor, got {got}")


def expect(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless `tensor` has `shape`."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple(tensor.shape)}")


def check_rows(x: Tensor, segments: Segments | None) -> int:
    """Return n: x is [n, m, in], or [M, in] covered by `segments`.

    Raises:
        ValueError: another shape, or segments that end elsewhere or lie on another device.
    """
    require_tensor("x", x)
    if segments is None:
        if x.dim() != 3:
            raise ValueError(f"x: expected [n, m, in], got shape {tuple(x.shape)}")
        return x.shape[0]
    if not isinstance(segments, Segments):
        raise ValueError(f"segments: expected Segments, got {type(segments).__name__}")
    if x.dim() != 2:
        raise ValueError(f"x: expected [M, in], got shape {tuple(x.shape)}")
    if segments.bounds[-1] != x.shape[0]:
        raise ValueError(f"offsets: expected 0 to {x.shape[0]}, got {segments.bounds}")
    if segments.offsets.device != x.device:
        raise ValueError(f"offsets: expected device {x.device} as x, got {segments.offsets.device}")
    return segments.n


def check_arguments(
    x: Tensor,
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    scaling: Tensor,
    bias: Tensor | None,
    n: int,
) -> None:
    """Check what the batched and the ragged layer share; x is [..., in].

    Raises:
        ValueError: shapes, dtypes or devices that do not fit.
    """
    tensors = {"weight": weight, "lora_A": lora_A, "lora_B": lora_B, "scaling": scaling}
    if bias is not None:
        tensors["bias"] = bias
    for name, tensor in tensors.items():
        require_tensor(name, tensor)
    if weight.dim() != 2 or not weight.numel():
        raise ValueError(f"weight: expected [out, in], neither 0, got shape {tuple(weight.shape)}")
    out_features, in_features = weight.shape
    if x.shape[-1] != in_features:
        raise ValueError(f"x: expected {in_features} features last, got shape {tuple(x.shape)}")
    if lora_A.dim() != 3:
        raise ValueError(f"lora_A: expected [n, r, in], got shape {tuple(lora_A.shape)}")
    r = lora_A.shape[1]
    if r < 1:
        raise ValueError(f"lora_A: expected a rank of at least 1, got shape {tuple(lora_A.shape)}")
    expect("lora_A", lora_A, (n, r, in_features))
    expect("lora_B", lora_B, (n, out_features, r))
    expect("scaling", scaling, (n,))
    if bias is not None:
        expect("bias", bias, (out_features,))
    if x.dtype not in ACTIVATIONS:
        raise ValueError(f"x: expected one of {ACTIVATIONS}, got {x.dtype}")
    if weight.dtype != x.dtype:
        raise ValueError(f"weight: expected {x.dtype} as x, got {weight.dtype}")
    if bias is not None and bias.dtype != x.dtype:
        raise ValueError(f"bias: expected {x.dtype} as x, got {bias.dtype}")
    if weight.requires_grad and torch.is_grad_enabled():
        raise ValueError("weight: expected a frozen weight, got one that requires a gradient")
    for name, tensor in tensors.items():
        if tensor.device != x.device:
            raise ValueError(f"{name}: expected device {x.device} as x, got {tensor.device}")
        if not tensor.is_floating_point():
            raise ValueError(f"{name}: expected a floating-point tensor, got {tensor.dtype}")


def refuse_tangents(*tensors: Tensor) -> None:
    """Raise ValueError for inputs of forward-mode derivatives, which would come out as zeros."""
    if forward_ad._current_level >= 0 and any(
        forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors
    ):
        raise ValueError("lora_linear: expected reverse-mode derivatives only, got a dual tensor")
