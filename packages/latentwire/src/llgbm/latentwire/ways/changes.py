"""Changes to a reader that last as long as a block: one way at a time, undone in any case."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from llgbm.latentwire.reader import Reader

# (module, args, output) -> output
OutputHook = Callable[[nn.Module, Any, Any], Any]
# (module, args, kwargs) -> None: looks at a call and leaves it as it is
CallHook = Callable[[nn.Module, Any, dict[str, Any]], None]


class _Mark:
    """Stands on a decoder body as long as a way changes the reader; does nothing."""

    def __call__(self, module: nn.Module, args: Any) -> None:
        """Leave the call as it is."""


@contextmanager
def changed(
    reader: Reader,
    outputs: Sequence[tuple[nn.Module, OutputHook]] = (),
    call: CallHook | None = None,
) -> Iterator[None]:
    """Within the block, modules of the reader run with hooks; afterwards they are gone.

    Args:
        reader: whose modules they are.
        outputs: modules and what changes their outputs. It runs before hooks that were there
            first, so hidden states that the model records hold the change.
        call: is shown every call of the decoder body.

    Raises:
        ValueError: a way changes this reader already: ways do not nest.
    """
    body = reader.model.get_decoder()
    if any(isinstance(hook, _Mark) for hook in body._forward_pre_hooks.values()):
        raise ValueError(f"{reader.name}: expected a bare reader, got one that a way changes")
    with ExitStack() as undo:
        undo.callback(body.register_forward_pre_hook(_Mark()).remove)
        if call is not None:
            undo.callback(body.register_forward_pre_hook(call, with_kwargs=True).remove)
        for module, hook in outputs:
            undo.callback(module.register_forward_hook(hook, prepend=True).remove)
        yield
