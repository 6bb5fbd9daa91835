"""lora_linear: the batched layer."""

from __future__ import annotations

from torch import Tensor

from llgbm.lora_kernels.backends import Backend
from llgbm.lora_kernels.grouped import lora_linear_grouped


def lora_linear(
    x: Tensor,
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    scaling: Tensor,
    bias: Tensor | None = None,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """y = x Wᵀ + s (x Aᵀ) Bᵀ + bias for n adapters, each on its own m rows.

    Differentiable once, in x, lora_A, lora_B, scaling and bias; the base weight is frozen. Works
    under torch.compile, CUDA graph capture and gradient checkpointing.

    Args:
        x: [n, m, in], float32, bfloat16, float16 or (torch alone) float64.
        weight: [out, in], x's dtype, without gradient.
        lora_A: [n, r, in], any floating dtype (float32 on bfloat16 activations is usual); any
            strides.
        lora_B: [n, out, r], likewise.
        scaling: [n].
        bias: [out].
        backend: `torch`, `triton`, `triton_fused`, or `auto`: what `use_backend` says, else as
            dispatch.py describes.

    Returns:
        [n, m, out], x's dtype. Gradients have the dtype of their argument.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit, or a backend that cannot run.
    """
    return lora_linear_grouped(x, [weight], [lora_A], [lora_B], scaling, [bias], backend=backend)[0]
