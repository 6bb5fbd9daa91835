"""Activation checkpointing by decoder layer, for models whose forward is patched."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from llgbm.deltas.spec import LoRASpec


def decoder_layers(model: nn.Module, spec: LoRASpec) -> tuple[nn.Module, ...]:
    """Layers from the first adapted one on: the siblings of the layer that its path names.

    Args:
        model: of the spec.
        spec: modules; empty where none of them lies in a numbered layer.
    """
    firsts = sorted({(module.layer, module.path) for module in spec.modules if module.layer >= 0})
    if not firsts:
        return ()
    layer, path = firsts[0]
    container = path[: path.index(f".{layer}.")]
    return tuple(model.get_submodule(container).children())[layer:]


@contextmanager
def checkpointed(
    layers: Sequence[nn.Module], around: Callable[[], AbstractContextManager[None]]
) -> Iterator[None]:
    """Within the block, each of the layers keeps its input alone and runs again in the backward.

    Args:
        layers: modules.
        around: entered whenever a layer runs: the second run may come after the patches that the
            first ran with are gone.
    """
    with ExitStack() as stack:
        for layer in layers:
            layer.forward = _running_again(layer.forward, around)
            stack.callback(vars(layer).pop, "forward", None)
        yield


def _running_again(
    forward: Callable[..., Any], around: Callable[[], AbstractContextManager[None]]
) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        with around():
            return forward(*args, **kwargs)

    def kept(*args: Any, **kwargs: Any) -> Any:
        # A frozen model in evaluation mode draws no random numbers: no state to put back.
        return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return kept
