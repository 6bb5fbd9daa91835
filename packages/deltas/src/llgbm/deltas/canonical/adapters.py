"""Canonical forms of whole adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from llgbm.deltas.canonical.a_normalized import ANormalizedForm
from llgbm.deltas.canonical.alignment import NEAR, align_factors, singular_blocks
from llgbm.deltas.canonical.delta_w import DeltaWForm
from llgbm.deltas.canonical.form import CanonicalForm, Parts
from llgbm.deltas.canonical.orthogonal import OrthogonalForm
from llgbm.deltas.canonical.singular import SingularForm
from llgbm.deltas.errors import AdapterError, SettingError
from llgbm.deltas.spec import LoRASpec
from llgbm.deltas.weights import LoRAWeights

_FORMS: dict[str, CanonicalForm] = {
    form.name: form for form in (DeltaWForm(), SingularForm(), OrthogonalForm(), ANormalizedForm())
}
CANONICAL_FORMS: Mapping[str, CanonicalForm] = MappingProxyType(_FORMS)


@dataclass(frozen=True)
class CanonicalAdapter:
    """n adapters in a canonical form.

    Attributes:
        spec: theirs.
        form: the form.
        parts: module path -> name -> [n, ...].
    """

    spec: LoRASpec
    form: CanonicalForm
    parts: Mapping[str, Parts]

    def weights(self) -> LoRAWeights:
        """Factors of the same updates: the inverse of `canonicalize_adapter`."""
        factors = {
            path: self.form.factors(parts, self.spec.r, self.spec.scaling)
            for path, parts in self.parts.items()
        }
        return LoRAWeights(
            self.spec,
            {path: A.contiguous() for path, (A, _) in factors.items()},
            {path: B.contiguous() for path, (_, B) in factors.items()},
        )


def canonicalize_adapter(weights: LoRAWeights, form: str = "svd") -> CanonicalAdapter:
    """Bring n adapters into a canonical form.

    Args:
        weights: n adapters.
        form: `delta_w`, `svd`, `qr` or `a_normalized`.

    Raises:
        SettingError: another form.
        AdapterError: NaN or Inf; names the module.
    """
    if form not in CANONICAL_FORMS:
        raise SettingError(f"form: expected one of {sorted(CANONICAL_FORMS)}, got {form!r}")
    chosen = CANONICAL_FORMS[form]
    parts = {}
    for path in weights.spec.paths:
        lora_A, lora_B = (_at_least_float32(f[path]) for f in (weights.lora_A, weights.lora_B))
        if not (torch.isfinite(lora_A).all() and torch.isfinite(lora_B).all()):
            raise AdapterError(f"{path}: expected finite values, got NaN or Inf")
        parts[path] = chosen.parts(lora_A, lora_B, weights.spec.scaling)
    return CanonicalAdapter(weights.spec, chosen, parts)


def align_adapters(weights: LoRAWeights, reference: int = 0, near: float = NEAR) -> LoRAWeights:
    """Return balanced singular factors of n adapters, turned towards those of one of them.

    Args:
        weights: n adapters.
        reference: place of the one.
        near: see `singular_blocks`.

    Returns:
        Adapters of the same updates.

    Raises:
        SettingError: no such adapter.
        AdapterError: NaN or Inf.
    """
    if not 0 <= reference < weights.n:
        raise SettingError(f"reference: expected from 0 to {weights.n - 1}, got {reference}")
    canonical = canonicalize_adapter(weights, "svd")
    balanced = canonical.weights()
    lora_A, lora_B = {}, {}
    for path, parts in canonical.parts.items():
        A, B = balanced.lora_A[path], balanced.lora_B[path]
        turned = [
            align_factors(A[i], B[i], A[reference], B[reference], singular_blocks(s, near))
            for i, s in enumerate(parts["s"])
        ]
        lora_A[path] = torch.stack([one for one, _ in turned])
        lora_B[path] = torch.stack([one for _, one in turned])
    return LoRAWeights(weights.spec, lora_A, lora_B)


def _at_least_float32(factor: Tensor) -> Tensor:
    return factor.detach().to(torch.promote_types(factor.dtype, torch.float32))
