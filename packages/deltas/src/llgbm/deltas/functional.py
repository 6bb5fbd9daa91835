"""FunctionalLoRA: run a frozen model once with many adapters, differentiably."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import accumulate

import torch
from torch import Tensor, nn

from llgbm.deltas.layer_checkpointing import checkpointed, decoder_layers
from llgbm.deltas.linear_groups import GroupForward, linear_groups, shares_type
from llgbm.deltas.spec import LoRASpec, linear_modules
from llgbm.deltas.weights import LoRAWeights
from llgbm.lora_kernels import Segments, lora_linear_grouped

Patches = dict[nn.Linear, Callable[[Tensor], Tensor]]


class FunctionalLoRA:
    """Applies batches of adapters to a frozen model through its linears' forward.

    Nothing is copied into the model, so gradients reach whatever made the factors (seed 001,
    phase 3.3). The batch is adapter-major: with n adapters, the first rows belong to adapter 0.
    Linears that read one tensor (q, k and v; gate and up) are computed together.

    Args:
        model: the base model, not wrapped by PEFT; its weights are not changed.
        spec: the modules to adapt.

    Raises:
        ModelError: the model lacks a module of the spec, or its sizes differ.
    """

    def __init__(self, model: nn.Module, spec: LoRASpec) -> None:
        self.spec = spec
        self._linears = linear_modules(model, spec)
        self._groups = [
            group
            for paths in linear_groups(spec)
            for group in (
                [paths]
                if shares_type([self._linears[path] for path in paths])
                else [(path,) for path in paths]
            )
        ]
        self._layers = decoder_layers(model, spec)

    @contextmanager
    def applied(
        self,
        weights: LoRAWeights,
        scaling: Tensor | None = None,
        rows: Sequence[int] | None = None,
        checkpoint: bool = False,
        around: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> Iterator[None]:
        """Within the block, every forward of the model runs with `weights`.

        Args:
            weights: n adapters of this spec; factors [n, r, in] and [n, out, r].
            scaling: [n] float32; lora_alpha / r where None.
            rows: sequences of each adapter, summing to the batch; equal shares where None.
            checkpoint: keep only what enters each decoder layer, and run the layer again in the
                backward: about a third more time for a fraction of the memory. The backward may
                come after the block.
            around: entered too, and again when a checkpointed layer runs a second time.

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
        sharing = RowSharing(n, rows)
        patches: Patches = {}
        for paths in self._groups:
            linears = [self._linears[path] for path in paths]
            compute = _adapted(
                linears,
                [weights.lora_A[path] for path in paths],
                [weights.lora_B[path] for path in paths],
                scaling,
                sharing,
            )
            group = GroupForward(compute)
            patches |= {linear: group.forward_of(i) for i, linear in enumerate(linears)}

        @contextmanager
        def patched() -> Iterator[None]:
            with around(), _patched(patches):
                yield

        with patched(), checkpointed(self._layers if checkpoint else (), patched):
            yield


class RowSharing:
    """Which rows of a batch belong to which adapter.

    Args:
        n: adapters.
        rows: sequences of each, or None for equal shares.
    """

    def __init__(self, n: int, rows: Sequence[int] | None) -> None:
        self.n = n
        self.rows = None if rows is None or len(set(rows)) == 1 else tuple(rows)
        self.batch = None if rows is None else sum(rows)
        self._segments: dict[tuple[int, torch.device], Segments] = {}

    def check(self, batch: int) -> None:
        """Raise ValueError unless `batch` sequences can be shared."""
        if (batch % self.n and self.rows is None) or self.batch not in (None, batch):
            expected = f"{self.batch}" if self.batch is not None else f"a multiple of {self.n}"
            raise ValueError(f"batch: expected {expected} sequences, got {batch}")

    def segments(self, tokens: int, device: torch.device) -> Segments | None:
        """Rows of sequences of `tokens` tokens; None for equal shares. Made once a length."""
        if self.rows is None:
            return None
        key = (tokens, device)
        if key not in self._segments:
            offsets = [tokens * count for count in accumulate(self.rows, initial=0)]
            self._segments[key] = Segments.of(offsets, device=device)
        return self._segments[key]


def _adapted(
    linears: Sequence[nn.Linear],
    lora_A: Sequence[Tensor],
    lora_B: Sequence[Tensor],
    scaling: Tensor,
    sharing: RowSharing,
) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return a function of x [batch, t, in] to each linear's [batch, t, out] with its adapters."""
    in_features = linears[0].in_features

    def compute(x: Tensor) -> Sequence[Tensor]:
        sharing.check(x.shape[0])
        tokens = x[0].numel() // in_features if len(x) else 0
        segments = sharing.segments(tokens, x.device)
        shape = (sharing.n, -1, in_features) if segments is None else (-1, in_features)
        outputs = lora_linear_grouped(
            x.reshape(shape),
            [linear.weight for linear in linears],
            lora_A,
            lora_B,
            scaling,
            [linear.bias for linear in linears],
            segments=segments,
        )
        return [y.view(*x.shape[:-1], y.shape[-1]) for y in outputs]

    return compute


@contextmanager
def _patched(patches: Patches) -> Iterator[None]:
    """Put the forwards in place where they are not yet, and take those away afterwards."""
    fresh = [linear for linear in patches if "forward" not in vars(linear)]
    try:
        for linear in fresh:
            linear.forward = patches[linear]  # type: ignore[method-assign, assignment]
        yield
    finally:
        for linear in fresh:
            vars(linear).pop("forward", None)
