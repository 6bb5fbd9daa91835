"""Parts that a step does not train keep no graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen_but(module: nn.Module, trained: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Within the block other parameters need no gradient: nothing is kept for theirs."""
    wanted = {id(each) for each in trained.values()}
    others = [each for each in module.parameters() if each.requires_grad and id(each) not in wanted]
    for each in others:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in others:
            each.requires_grad_(True)
