"""One adapter of a batch by forward hooks, as seed 002 applies it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from llgbm.deltas.weights import LoRAWeights


@contextmanager
def one_adapter(linears: Mapping[str, nn.Linear], weights: LoRAWeights, i: int) -> Iterator[None]:
    """Within the block, adapter i adds its update to every linear's output, out of place.

    Args:
        linears: by module path.
        weights: n adapters; gradients reach the factors.
        i: which of them.
    """
    scaling, handles = weights.spec.scaling, []
    for path, linear in linears.items():
        A, B = weights.lora_A[path][i], weights.lora_B[path][i]

        def hook(
            module: nn.Module, inputs: Any, output: Tensor, A: Tensor = A, B: Tensor = B
        ) -> Tensor:
            x = inputs[0]
            return output + scaling * ((x @ A.to(x.dtype).T) @ B.to(x.dtype).T)

        handles.append(linear.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
