"""Adapters of several ranks as one batch: zero rows and columns change no update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from llgbm.deltas.errors import AdapterError
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights


def at_common_rank(batches: Sequence[LoRAWeights], names: Sequence[object] = ()) -> LoRAWeights:
    """Join batches of adapters that may differ in r and lora_alpha, but not in modules.

    Each is padded with zeros to the largest r. The joined scaling is that of the batch with the
    largest one; where another's differs, their ratio goes into lora_B, so that every update stays
    what it was: exactly for ratios that are powers of two, else to float32 rounding.

    Args:
        batches: at least one.
        names: of the batches, for errors.

    Returns:
        All adapters, float32.

    Raises:
        AdapterError: no batches, or other modules in one of them.
    """
    if not batches:
        raise AdapterError("expected at least one batch of adapters, got none")
    names = names or [f"batch {index}" for index in range(len(batches))]
    modules = batches[0].spec.modules
    for batch, name in zip(batches, names, strict=True):
        _check_modules(batches[0].spec, batch.spec, names[0], name)
    r = max(batch.spec.r for batch in batches)
    scaling = max(batch.spec.scaling for batch in batches)
    joined = LoRASpec(modules, r, scaling * r)

    def padded_A(batch: LoRAWeights, path: str) -> Tensor:
        return F.pad(batch.lora_A[path].float(), (0, 0, 0, r - batch.spec.r))

    def padded_B(batch: LoRAWeights, path: str) -> Tensor:
        ratio = batch.spec.scaling / scaling
        return F.pad(batch.lora_B[path].float() * ratio, (0, r - batch.spec.r))

    return LoRAWeights(
        joined,
        {path: torch.cat([padded_A(b, path) for b in batches]) for path in joined.paths},
        {path: torch.cat([padded_B(b, path) for b in batches]) for path in joined.paths},
    )


def _check_modules(first: LoRASpec, other: LoRASpec, first_name: object, name: object) -> None:
    wanted = {m.path: (m.in_features, m.out_features) for m in first.modules}
    found = {m.path: (m.in_features, m.out_features) for m in other.modules}
    for path in sorted(wanted.keys() | found.keys()):
        if wanted.get(path) != found.get(path):
            raise AdapterError(
                f"{name}: {path}: (in, out): expected {wanted.get(path, 'no such module')} as in "
                f"{first_name}, got {found.get(path, 'no such module')}"
            )
    if first.paths != other.paths:
        raise AdapterError(f"{name}: expected its modules in the order of {first_name}")
