"""FunctionalLoRA: run a frozen model once with many adapters, differentiably."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from llgbm.deltas.spec import LoRASpec, linear_modules
from llgbm.deltas.weights import LoRAWeights
from llgbm.lora_kernels import lora_linear


class FunctionalLoRA:
    """Applies batches of adapters to a frozen model through its linears' forward.

    Nothing is copied into the model, so gradients reach whatever made the factors (seed 001,
    phase 3.3). The batch is adapter-major: with n adapters, the first rows belong to adapter 0.

    Args:
        model: the base model, not wrapped by PEFT; its weights are not changed.
        spec: the modules to adapt.

    Raises:
        ModelError: the model lacks a module of the spec, or its sizes differ.
    """

    def __init__(self, model: nn.Module, spec: LoRASpec) -> None:
        self.spec = spec
        self._linears = linear_modules(model, spec)

    @contextmanager
    def applied(
        self,
        weights: LoRAWeights,
        scaling: Tensor | None = None,
        rows: Sequence[int] | None = None,
    ) -> Iterator[None]:
        """Within the block, every forward of the model runs with `weights`.

        Args:
            weights: n adapters of this spec; factors [n, r, in] and [n, out, r].
            scaling: [n] float32; lora_alpha / r where None.
            rows: sequences of each adapter, summing to the batch; equal shares where None.

        Raises:
            ValueError: another spec, another length of `scaling` or `rows`, or a nested use.
        """
        if weights.spec != self.spec:
            raise ValueError("FunctionalLoRA: weights: expected the spec it was made with")
        n = weights.n
        if scaling is None:
            scaling = torch.full((n,), self.spec.scaling, device=weights.device)
        if tuple(scaling.shape) != (n,):
            raise ValueError(f"scaling: expected shape ({n},), got {tuple(scaling.shape)}")
        if rows is not None and len(rows) != n:
            raise ValueError(f"rows: expected {n} counts, one an adapter, got {len(rows)}")
        if any("forward" in vars(linear) for linear in self._linears.values()):
            raise ValueError("FunctionalLoRA: the model already runs with adapters applied")
        batch = None if rows is None else sum(rows)
        owner = None
        if rows is not None and len(set(rows)) > 1:
            # Unequal shares: each sequence becomes an item with its adapter's factors, so that
            # one batched product still does it all; the copies are small beside activations.
            counts = torch.tensor(list(rows), device=weights.device)
            owner = torch.arange(n, device=weights.device).repeat_interleave(counts)
            scaling = scaling.index_select(0, owner)
        try:
            for path, linear in self._linears.items():
                lora_A, lora_B = weights.lora_A[path], weights.lora_B[path]
                if owner is not None:
                    lora_A, lora_B = lora_A.index_select(0, owner), lora_B.index_select(0, owner)
                linear.forward = _adapted_forward(  # type: ignore[method-assign, assignment]
                    linear, lora_A, lora_B, scaling, batch
                )
            yield
        finally:
            for linear in self._linears.values():
                vars(linear).pop("forward", None)


def _adapted_forward(
    linear: nn.Linear, lora_A: Tensor, lora_B: Tensor, scaling: Tensor, batch: int | None
) -> Callable[[Tensor], Tensor]:
    """Return a forward for x [batch, t, in] -> [batch, t, out] with the adapters' part added."""
    n = lora_A.shape[0]

    def forward(x: Tensor) -> Tensor:
        if x.shape[0] % n or batch not in (None, x.shape[0]):
            expected = f"{batch}" if batch is not None else f"a multiple of {n}"
            raise ValueError(f"batch: expected {expected} sequences, got {x.shape[0]}")
        grouped = x.reshape(n, -1, linear.in_features)
        y = lora_linear(grouped, linear.weight, lora_A, lora_B, scaling, linear.bias)
        return y.view(*x.shape[:-1], linear.out_features)

    return forward
