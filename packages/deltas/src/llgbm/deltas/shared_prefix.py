"""The layers below the first adapted one, run once for all adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from llgbm.deltas.layer_checkpointing import decoder_layers
from llgbm.deltas.spec import LoRASpec


def first_adapted_layer(spec: LoRASpec) -> int:
    """Index of the first decoder layer with an adapter; 0 where a module lies outside layers."""
    return max(0, min(module.layer for module in spec.modules))


@contextmanager
def prefix_run_once(model: nn.Module, spec: LoRASpec, n: int, batch: int) -> Iterator[bool]:
    """Within the block the model takes `batch` sequences and gives n * batch, adapter-major.

    Before the first adapted layer all n copies of a batch are equal, so the layers below run on
    one copy, whose hidden states are repeated where the adapters begin.

    Args:
        model: of the spec, with one stack of numbered decoder layers.
        spec: modules.
        n: adapters.
        batch: sequences given to the model.

    Yields:
        False where there is nothing to save (one adapter, or the first layer is adapted): the
        model then takes n * batch sequences as always.
    """
    if n == 1 or first_adapted_layer(spec) == 0:
        yield False
        return
    repeated: dict[int, tuple[Tensor, Tensor]] = {}

    def repeat(tensor: Tensor) -> Tensor:
        # Masks, positions and rotary factors of one copy; what has one row serves every batch.
        if tensor.dim() < 2 or tensor.shape[0] != batch or batch == 1:
            return tensor
        if id(tensor) not in repeated:
            copies = tensor.repeat(n, *[1] * (tensor.dim() - 1))
            # The original is kept with its copies, so that its id stays its own.
            repeated[id(tensor)] = (tensor, copies)
        return repeated[id(tensor)][1]

    def widen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden, *rest = args
        if hidden.shape[0] == batch:
            hidden = hidden.repeat(n, *[1] * (hidden.dim() - 1))
        rest, kwargs = tree_map_only(torch.Tensor, repeat, (rest, kwargs))
        return (hidden, *rest), kwargs

    with ExitStack() as stack:
        for layer in decoder_layers(model, spec):
            handle = layer.register_forward_pre_hook(widen, with_kwargs=True)
            stack.callback(handle.remove)
        yield True
